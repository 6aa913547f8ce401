"""Operator handlers; importing this package registers all of them."""

from flashmem_lab.lower.ops import conv, elementwise, linear, norm, pool, shape

__all__ = ["conv", "elementwise", "linear", "norm", "pool", "shape"]
