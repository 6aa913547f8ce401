"""ONNX -> Graph: static shapes, folded constants, weights as references.

No other folder knows ONNX.

The functions are imported when first used: the value types are wanted by stages that must not pay
for importing onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.graph.model import AttributeValue, Graph, Node, TensorType, WeightRef
from flashmem_lab.lazy import lazily

if TYPE_CHECKING:
    from flashmem_lab.graph.opening import open_graph
    from flashmem_lab.graph.tensors import read_weight
else:
    __getattr__ = lazily(
        __name__,
        {
            "opening": ("open_graph",),
            "tensors": ("read_weight",),
        },
    )

__all__ = [
    "AttributeValue",
    "Graph",
    "Node",
    "TensorType",
    "WeightRef",
    "open_graph",
    "read_weight",
]
