"""Nodes that stand for other nodes: operators defined by a function, branches, loops.

Pure functions that give the nodes; fold.py walks them in the node's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.inference import type_proto
from flashmem_lab.graph.model import TensorType
from flashmem_lab.graph.order import label, live

COMPOSED = frozenset(
    {
        "Attention", "CenterCropPad", "NegativeLogLikelihoodLoss", "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss", "Swish",
    }
)  # fmt: skip
"""Operators that are opened as ONNX's own function of simpler ones, which have kernels."""

UNROLLED_LIMIT = 20_000
"""Nodes that a loop may become."""


AXES_AS_INPUT = 13
"""The opset from which Unsqueeze takes its axes as an input; before, as an attribute."""


def function_body(
    node: onnx.NodeProto, schema: defs.OpSchema, types: Mapping[str, TensorType], opset: int
) -> onnx.FunctionProto | None:
    """The function that ONNX defines a standard operator by.

    Args:
        node: of the default domain.
        schema: the operator's, at `opset`.
        types: element type and shape of its inputs, which some bodies depend on.
        opset: version of the default domain.

    Returns:
        The function, its attributes filled in; None where ONNX has none for this node.
    """
    functions: Any = schema  # the stubs of onnx leave them out
    body = onnx.FunctionProto()
    if functions.has_context_dependent_function:
        version = _newest(functions.context_dependent_function_opset_versions, opset)
        protos = [type_proto(types[name]) if name else onnx.TypeProto() for name in node.input]
        texts = [proto.SerializeToString() for proto in protos]
        data = version and functions.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), texts
        )
    else:
        version = _newest(functions.function_opset_versions, opset)
        data = version and functions.get_function_with_opset_version(version)
    if not data:
        return None
    body.ParseFromString(data)
    given = {item.name: item for item in node.attribute}
    for name, item in schema.attributes.items():
        if item.default_value.name:
            given.setdefault(name, item.default_value)
    for inner in body.node:
        _fill(inner, given)
        inner.name = f"{label(node)}/{inner.op_type}"
    return body


def _newest(versions: Iterable[int], opset: int) -> int:
    """The newest version that `opset` has; 0 for none."""
    return max((version for version in versions if version <= opset), default=0)


def _fill(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> None:
    """Puts the caller's attributes where a function's node refers to them."""
    kept = []
    for item in node.attribute:
        if not item.ref_attr_name:
            kept.append(item)
        elif item.ref_attr_name in given:
            filled = onnx.AttributeProto()
            filled.CopyFrom(given[item.ref_attr_name])
            filled.name = item.name
            kept.append(filled)
    del node.attribute[:]
    node.attribute.extend(kept)


def branch_taken(node: onnx.NodeProto, condition: np.ndarray) -> onnx.GraphProto:
    """The branch of an If whose condition is known.

    Raises:
        ModelError: the condition is not one number, the branch is missing or of other outputs.
    """
    if condition.size != 1:
        raise ModelError(f"the condition of {label(node)!r} (If) has {condition.size} elements")
    return _inner(node, "then_branch" if condition.item() else "else_branch", len(node.output))


def loop_body(node: onnx.NodeProto) -> onnx.GraphProto:
    """The body of a Loop.

    Raises:
        ModelError: it is missing, or does not fit the node's inputs and outputs.
    """
    carried = max(0, len(node.input) - 2)
    body = _inner(node, "body", None)
    if len(body.input) != 2 + carried or len(body.output) != 1 + len(node.output):
        raise ModelError(
            f"the body of {label(node)!r} (Loop) takes {len(body.input)} and gives "
            f"{len(body.output)} values; the node needs {2 + carried} and {1 + len(node.output)}"
        )
    return body


def is_steady(body: onnx.GraphProto) -> bool:
    """True if whether a loop goes on does not depend on the iteration: after one it is settled."""
    read = {body.output[0].name}
    while not (more := live(body.node, read)[1]) <= read:  # the file's order need not be the right
        read = more
    first, _, *carried = [value.name for value in body.input]
    return read.isdisjoint([first, *carried])


def _inner(node: onnx.NodeProto, name: str, outputs: int | None) -> onnx.GraphProto:
    """A graph among the node's attributes, with as many outputs as it needs."""
    found = [item.g for item in node.attribute if item.name == name and item.HasField("g")]
    if len(found) != 1:
        raise ModelError(f"{label(node)!r} ({node.op_type}) has no {name}")
    if outputs is not None and len(found[0].output) != outputs:
        raise ModelError(
            f"{name} of {label(node)!r} ({node.op_type}) gives {len(found[0].output)} values "
            f"for {outputs} output(s)"
        )
    graph: onnx.GraphProto = found[0]
    return graph


def stacked(
    node: onnx.NodeProto, parts: list[str], output: str, opset: int
) -> list[onnx.NodeProto]:
    """Nodes of the default domain's `opset` that stack what each iteration of a loop gave."""
    names = [f"{output}/{at}" for at in range(len(parts))]
    labels = [f"{label(node)}/{at}" for at in range(len(parts))]
    if opset < AXES_AS_INPUT:
        nodes = [
            helper.make_node("Unsqueeze", [part], [name], called, axes=[0])
            for part, name, called in zip(parts, names, labels, strict=True)
        ]
    else:
        axes = f"{output}/axes"
        nodes = [helper.make_node("Constant", [], [axes], f"{label(node)}/axes", value_ints=[0])]
        nodes += [
            helper.make_node("Unsqueeze", [part, axes], [name], called)
            for part, name, called in zip(parts, names, labels, strict=True)
        ]
    nodes.append(helper.make_node("Concat", names, [output], f"{label(node)}/stack", axis=0))
    return nodes
