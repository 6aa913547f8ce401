"""Graph -> layers: kernels, texture layouts, fusions and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.lazy import lazily
from flashmem_lab.lower.layer import LoweredModel, Precision, Storage

if TYPE_CHECKING:
    from flashmem_lab.lower.lowering import lower
else:
    __getattr__ = lazily(
        __name__,
        {
            "lowering": ("lower",),
        },
    )

__all__ = [
    "LoweredModel",
    "Precision",
    "Storage",
    "lower",
]
