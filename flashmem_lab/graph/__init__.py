"""ONNX -> Graph: static shapes, folded constants, weights as references.

No other folder knows ONNX.

The functions are imported when first used: the value types are wanted by stages that must not pay
for importing onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.graph.model import AttributeValue, Graph, Node, TensorType, WeightRef

if TYPE_CHECKING:
    from flashmem_lab.graph.opening import open_graph
    from flashmem_lab.graph.tensors import read_weight

__all__ = [
    "AttributeValue",
    "Graph",
    "Node",
    "TensorType",
    "WeightRef",
    "open_graph",
    "read_weight",
]


def __getattr__(name: str) -> object:
    if name == "open_graph":
        from flashmem_lab.graph.opening import open_graph

        return open_graph
    if name == "read_weight":
        from flashmem_lab.graph.tensors import read_weight

        return read_weight
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
