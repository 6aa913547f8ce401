"""A plane cut into windows and put together again, as Swin and SAM 2 do it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

WINDOWS = {
    "cut": np.array([1, 4, 2, 3, 5, 8]),
    "windows": np.array([4 * 3, 2 * 5, 8]),
    "apart": np.array([1, 4, 3, 2, 5, 8]),
    "joined": np.array([1, 8, 15, 8]),
}
"""Shapes that the nodes below name."""


def partition(source: str, result: str) -> list[onnx.NodeProto]:
    """(1, 8, 15, 8) as 12 windows of 2 x 5 pixels."""
    return [
        _node("Reshape", f"{source} cut", f"{result}_cut"),
        _node("Transpose", f"{result}_cut", f"{result}_turned", perm=[0, 1, 3, 2, 4, 5]),
        _node("Reshape", f"{result}_turned windows", result),
    ]


def there_and_back() -> list[onnx.NodeProto]:
    """Windows of a normalised plane x, a product with m, the inverse, and x added: y."""
    return [
        _node("LayerNormalization", "x scale", "n"),
        *partition("n", "w"),
        _node("MatMul", "w m", "p"),
        _node("Reshape", "p apart", "s"),
        _node("Transpose", "s", "t", perm=[0, 1, 3, 2, 4, 5]),
        _node("Reshape", "t joined", "u"),
        _node("Add", "x u", "y"),
    ]


def _node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)
