"""Graph -> layers: kernels, texture layouts, fusions and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmem_lab.lower.layer import LoweredModel, Precision, Storage

if TYPE_CHECKING:
    from flashmem_lab.lower.lowering import lower

__all__ = ["LoweredModel", "Precision", "Storage", "lower"]


def __getattr__(name: str) -> Any:
    """Imports the lowering on first use: whoever needs only the values does not load ONNX."""
    if name == "lower":
        from flashmem_lab.lower.lowering import lower

        return lower
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
