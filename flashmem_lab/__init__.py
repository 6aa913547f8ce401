"""FlashMem Lab: run ONNX models on OpenCL textures within a memory budget, and see it happen.

Names below are imported when first used, so `import flashmem_lab` loads no solver, no OpenCL and
no plotting library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashmem_lab.errors import FlashMemError
    from flashmem_lab.units import Budget
    from flashmem_lab.views import GraphView, Workbench
    from flashmem_lab.workflow import (
        compile_plan,
        load,
        load_plan,
        make_plan,
        open_device,
        run,
        save_plan,
    )

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "FlashMemError",
    "GraphView",
    "Workbench",
    "compile_plan",
    "load",
    "load_plan",
    "make_plan",
    "open_device",
    "run",
    "save_plan",
]

_HOMES = {
    "Budget": "flashmem_lab.units",
    "FlashMemError": "flashmem_lab.errors",
    "GraphView": "flashmem_lab.views",
    "Workbench": "flashmem_lab.views",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "flashmem_lab.workflow")), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext flashmem_lab` adds the magics `%flashmem` and `%%flashmem`."""
    shell.register_magics(import_module("flashmem_lab.views.magics").FlashMemMagics)
