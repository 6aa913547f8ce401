"""Models and functions of other opsets in the operators of one, by ONNX's own converter."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, inliner, shape_inference, version_converter

from flashmem_lab.errors import ModelError, UnsupportedOperators
from flashmem_lab.graph.inference import schema_of
from flashmem_lab.graph.order import label, subgraphs

_INITIALIZERS_ALONE = 4
"""The IR from which on an initializer need not be an input too; older files do not keep to that."""

_RESIZE_OF_10 = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""What Upsample and Resize did before opset 11; the converter leaves them to the new defaults."""


def converted(model: onnx.ModelProto, old: int, new: int, path: Path) -> onnx.ModelProto:
    """`model` in the operators of opset `new`.

    Args:
        model: without its weights; what refers to them stays as it is.
        old: version of the default domain that it has, before 11.
        new: version that it is to have, 11 or later.
        path: of the file, for messages.

    Raises:
        UnsupportedOperators: operators that the old version does not have, all at once.
        ModelError: the converter cannot.
    """
    model.ir_version = max(model.ir_version, _INITIALIZERS_ALONE)
    try:
        result: onnx.ModelProto = version_converter.convert_version(model, new)
    except Exception as error:  # the converter's own classes, and whatever its C++ ends with
        unknown = [
            f"ai.onnx::{node.op_type} ({label(node)})"
            for node in model.graph.node
            if node.domain in ("", "ai.onnx") and schema_of(node.op_type, old) is None
        ]
        if unknown:
            raise UnsupportedOperators(unknown) from error
        raise ModelError(
            f"{path} uses opset {old}, which ONNX cannot convert to {new}: "
            f"{' '.join(str(error).split())[:300]}",
            hint="export it again, with a newer opset",
        ) from error
    _keep_resizes(result.graph)
    return result


def inlined(model: onnx.ModelProto, opset: int, path: Path) -> onnx.ModelProto:
    """`model` with its functions in the place of their calls.

    Args:
        model: without its weights; what refers to them stays as it is.
        opset: its version of the default domain; functions of another one are brought to it.
        path: of the file, for messages.

    Raises:
        ModelError: a function is of another version, and the converter cannot.
    """
    others = [
        function.name
        for function in model.functions
        if any(
            one.domain in ("", "ai.onnx") and one.version != opset for one in function.opset_import
        )
    ]
    if not others:
        return inliner.inline_local_functions(model)
    # The converter wants to know every type.
    model.graph.value_info.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in model.graph.initializer
    )
    try:
        typed = shape_inference.infer_shapes(model)
        return inliner.inline_local_functions(typed, convert_version=True)
    except Exception as error:  # as above
        raise ModelError(
            f"function {others[0]!r} of {path} is of another opset than the model's {opset}, "
            f"and ONNX cannot convert it: {' '.join(str(error).split())[:300]}",
            hint="export it again, in one opset",
        ) from error


def _keep_resizes(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Resize":
            node.attribute.extend(helper.make_attribute(*one) for one in _RESIZE_OF_10.items())
        for inner in subgraphs(node):
            _keep_resizes(inner)
