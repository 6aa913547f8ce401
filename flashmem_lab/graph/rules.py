"""What can be left out of a node, or of a graph without it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import defs

from flashmem_lab.graph.model import TensorType

# They do nothing when the output has the input's type.
_RESHAPES = {"Cast", "Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}


def drop_unread(node: onnx.NodeProto, schema: defs.OpSchema, read: set[str]) -> None:
    """Removes optional outputs at the end that nothing reads (masks, indices, statistics)."""
    optional = defs.OpSchema.FormalParameterOption.Optional
    while len(node.output) > 1 and node.output[-1] not in read:
        position = len(node.output) - 1
        if position >= len(schema.outputs) or schema.outputs[position].option != optional:
            return
        del node.output[-1]


def is_inference_dropout(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray], read: set[str]
) -> bool:
    """Whether a node is a Dropout that passes its input on."""
    if node.op_type != "Dropout" or any(name in read for name in node.output[1:]):
        return False
    training = node.input[2] if len(node.input) > 2 else ""
    return not training or (training in constants and not constants[training].item())


def does_nothing(
    node: onnx.NodeProto,
    inputs: Mapping[str, TensorType],
    outputs: Mapping[str, TensorType],
    constants: Mapping[str, np.ndarray],
) -> bool:
    """Whether the node's only output equals its first input."""
    if len(node.output) != 1 or outputs.get(node.output[0]) != inputs.get(node.input[0]):
        return False
    if node.op_type == "Concat":
        return len(node.input) == 1
    if node.op_type == "Slice":  # the whole, unless it runs backwards
        steps = node.input[4] if len(node.input) > 4 else ""
        return not steps or (steps in constants and bool((constants[steps] > 0).all()))
    return node.op_type in _RESHAPES
