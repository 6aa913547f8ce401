"""From a kernel call to OpenCL C: Jinja templates in kernels/, shipped inside the wheel."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab.lower.layer import KernelCall
from flashmem_lab.program.program import KernelSource

if TYPE_CHECKING:
    from jinja2 import Environment


def kernel_directory() -> Path:
    """Where the templates lie: inside the installed package, or kernels/ of a checkout."""
    installed = Path(str(files("flashmem_lab"))) / "_kernels"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "kernels"


@cache
def _environment() -> Environment:
    # Jinja takes 13 ms to import; a bundle is run without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(kernel_directory()),
        undefined=StrictUndefined,  # a missing parameter is a defect, never an empty string
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (the output is C, and no user's text goes in)
    )


@cache
def kernels_digest() -> str:
    """A digest of all templates: what was measured of them holds while it stays the same."""
    digest = hashlib.sha256()
    for path in sorted(kernel_directory().iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def render(call: KernelCall) -> KernelSource:
    """The kernel's source, complete in itself.

    Args:
        call: template and its parameters.

    Raises:
        jinja2.UndefinedError: the template wants a parameter that the call lacks.
    """
    template = _environment().get_template(call.template)
    return KernelSource(call.template.removesuffix(".cl"), template.render(dict(call.params)))
