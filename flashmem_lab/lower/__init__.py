"""Graph -> layers: kernels, texture layouts, fusions and costs."""

from flashmem_lab.lower.layer import LoweredModel, Precision, Storage
from flashmem_lab.lower.lowering import lower

__all__ = ["LoweredModel", "Precision", "Storage", "lower"]
