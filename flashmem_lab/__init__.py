"""FlashMem Lab: run ONNX models on OpenCL textures within a memory budget, and see it happen.

Names below are imported when first used, so `import flashmem_lab` loads no solver, no OpenCL and
no plotting library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flashmem_lab.lazy import lazily

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
else:
    __getattr__ = lazily(
        __name__,
        {
            "errors": ("FlashMemError",),
            "units": ("Budget",),
            "views": ("GraphView", "Workbench"),
            "workflow": (
                "compile_plan",
                "load",
                "load_plan",
                "make_plan",
                "open_device",
                "run",
                "save_plan",
            ),
        },
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


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext flashmem_lab` adds the magics `%flashmem` and `%%flashmem`."""
    shell.register_magics(import_module("flashmem_lab.views.magics").FlashMemMagics)
