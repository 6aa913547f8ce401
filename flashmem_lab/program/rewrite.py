"""Writing into any rendered kernel, whatever it does: more arguments, statements at its start."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flashmem_lab.program.program import KernelSource

_ATTRIBUTE = r"(?:__attribute__\(\(\w+\([^)]*\)\)\)\s+)?"
_SIGNATURE = re.compile(rf"__kernel\s+{_ATTRIBUTE}void\s+\w+\(([^)]*)\)\s*\{{")


def arguments_of(kernel: KernelSource) -> tuple[str, ...]:
    """The declarations of the kernel's arguments, such as "__global const float* x"."""
    return tuple(text.strip() for text in _signature(kernel)[1].split(",") if text.strip())


def extended(kernel: KernelSource, arguments: Sequence[str], statements: str) -> KernelSource:
    """`kernel` with more arguments behind its own, and statements before its own.

    Args:
        kernel: any rendered kernel.
        arguments: their declarations.
        statements: whole lines of OpenCL C.
    """
    found, source = _signature(kernel), kernel.source
    own = [found[1].strip()] if found[1].strip() else []
    listed = ",\n    ".join([*own, *arguments])
    head = f"{source[: found.start(1)]}\n    {listed}{source[found.end(1) : found.end()]}\n"
    body = source[found.end() :].removeprefix("\n")
    return KernelSource(kernel.entry, head + statements + body)


def _signature(kernel: KernelSource) -> re.Match[str]:
    found = _SIGNATURE.search(kernel.source)
    assert found is not None, "every template has a kernel"
    return found
