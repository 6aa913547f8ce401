"""Parts of a node that the Graph keeps: attributes as Python values, the scope it came from."""

from __future__ import annotations

import ast

import numpy as np
import onnx
from onnx import helper

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.model import AttributeValue, WeightRef
from flashmem_lab.graph.order import label
from flashmem_lab.graph.tensors import TensorReader, read_weight

_NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_NAMESPACE = "namespace"
_Type = onnx.AttributeProto


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute, or its default."""
    return next((item.i for item in node.attribute if item.name == name), default)


def attribute_values(node: onnx.NodeProto, reader: TensorReader) -> dict[str, AttributeValue]:
    """A node's attributes as Python values, in the file's order.

    Raises:
        ModelError: an attribute of a kind that no supported operator has.
    """
    values: dict[str, AttributeValue] = {}
    for item in node.attribute:
        if item.type == _Type.TENSOR:
            tensor = reader.read(item.t, f"{label(node)}.{item.name}")
            values[item.name] = (
                np.array(read_weight(tensor)) if isinstance(tensor, WeightRef) else tensor
            )
        elif item.type in (_Type.INT, _Type.FLOAT, _Type.STRING) and not item.ref_attr_name:
            value = helper.get_attribute_value(item)
            values[item.name] = _text(value) if isinstance(value, bytes) else value
        elif item.type in (_Type.INTS, _Type.FLOATS, _Type.STRINGS) and not item.ref_attr_name:
            several = helper.get_attribute_value(item)
            values[item.name] = tuple(_text(v) if isinstance(v, bytes) else v for v in several)
        else:
            kind = _Type.AttributeType.Name(item.type)
            raise ModelError(
                f"attribute {item.name!r} of node {label(node)!r} ({node.op_type}) is a {kind}, "
                "which no supported operator has"
            )
    return values


def constant_value(node: onnx.NodeProto, reader: TensorReader) -> np.ndarray | WeightRef:
    """The value of a Constant node.

    Raises:
        ModelError: it holds no dense numbers.
    """
    for item in node.attribute:
        if item.name == "value":
            return reader.read(item.t, node.output[0])
        if item.name in ("value_float", "value_floats"):
            floats = item.f if item.name == "value_float" else list(item.floats)
            return np.array(floats, np.float32)
        if item.name in ("value_int", "value_ints"):
            return np.array(item.i if item.name == "value_int" else list(item.ints), np.int64)
    raise ModelError(
        f"constant {label(node)!r} holds strings, a sparse tensor or nothing",
        hint="only dense numbers are supported",
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def scope_of(node: onnx.NodeProto) -> str:
    """Where a node comes from in the source model, such as "encoder.layer.0.attention".

    From torch's metadata where it is, else from node names with slashes (torch's older exporter,
    TensorFlow's), else "".
    """
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    path = _from_scopes(metadata.get(_NAME_SCOPES, ""))
    if path:
        return path
    if _NAMESPACE in metadata:  # ": Model/encoder: Encoder/encoder.layer.0: Layer/add: aten.add"
        parts = metadata[_NAMESPACE].split("/")[:-1]
        names = [part.split(":")[0].strip() for part in parts]
        return next((name for name in reversed(names) if name), "")
    return ".".join(part for part in node.name.split("/")[:-1] if part)


def _from_scopes(text: str) -> str:
    """The module in torch's list "['', 'encoder', 'encoder.layer.0', 'add_3']"; the last is it."""
    if not text or len(text) > 65536:
        return ""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return ""
    return next((scope for scope in reversed(scopes[:-1]) if scope), "")
