"""Kernels told where their operands begin in a buffer that holds many of them.

The activations of a program lie in one buffer (`Arena`). A kernel can be given a part of it as an
object of its own, which takes NVIDIA's driver longer for each launch the more parts there are
(driver 580, 519 launches of SD-UNet over 112 parts: 35 ms, and 16 where it sees none, 2026-11). So
kernels are rewritten, all alike: for each pointer comes a number, the byte at which it begins.
"""

from __future__ import annotations

from flashmem_lab.program.program import KernelSource
from flashmem_lab.program.rewrite import arguments_of, extended

_POINTER = "__global "


def pointers(kernel: KernelSource) -> tuple[int, ...]:
    """Which arguments of a kernel are pointers to buffers, by place."""
    arguments = enumerate(arguments_of(kernel))
    return tuple(at for at, text in arguments if text.startswith(_POINTER))


def placed(kernel: KernelSource) -> KernelSource:
    """`kernel` with a number (ulong) for each of its `pointers`, in their order, behind the rest.

    A pointer begins that many bytes into its buffer: a multiple of what its element needs.
    """
    arguments, lines = arguments_of(kernel), []
    at = pointers(kernel)
    for number, place in enumerate(at):
        declared, _, name = arguments[place].rpartition(" ")
        kind = declared.replace("restrict", "").strip()
        const = "const " if "const " in kind else ""
        moved = f"(__global {const}char*){name} + place{number}"
        lines.append(f"  {name} = ({kind})({moved});\n")
    return extended(
        kernel, [f"const ulong place{number}" for number in range(len(at))], "".join(lines)
    )
