"""Operator handlers; importing this package registers all of them."""

from flashmem_lab.lower.ops import (
    conv,
    einsum,
    elementwise,
    index,
    linear,
    norm,
    pad,
    pool,
    quantize,
    reduce,
    resize,
    shape,
)

__all__ = [
    "conv",
    "einsum",
    "elementwise",
    "index",
    "linear",
    "norm",
    "pad",
    "pool",
    "quantize",
    "reduce",
    "resize",
    "shape",
]
