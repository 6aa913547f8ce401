"""What the panel beside the graph says of a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from flashmem_lab.graph import Graph
from flashmem_lab.graph.model import AttributeValue
from flashmem_lab.lower.layer import HostCall, KernelCall, Layer, LoweredModel, Storage, Weight
from flashmem_lab.units import format_bytes
from flashmem_lab.views.graph_data import node_layers

_LONGEST = 60  # characters of an attribute's value


class Section(TypedDict):
    """A titled table of words; mirrored in widgets/src/core/model.ts."""

    title: str
    rows: list[tuple[str, str]]


def node_details(graph: Graph, model: LoweredModel | None, index: int) -> list[Section]:
    """Shapes, attributes, weights, kernel and texture layout of a node.

    Args:
        graph: of the node.
        model: its layers, if it was lowered.
        index: of the node in the graph.
    """
    node = graph.nodes[index]
    activations = [name for name in node.inputs if name in graph.types and not _known(graph, name)]
    sections: list[Section] = [
        {"title": "Reads", "rows": [(name, _type(graph, name)) for name in activations]},
        {"title": "Writes", "rows": [(name, _type(graph, name)) for name in node.outputs if name]},
        {"title": "Weights in the file", "rows": _stored(graph, node.inputs)},
        {
            "title": "Attributes",
            "rows": [(name, _value(value)) for name, value in node.attributes.items()],
        },
    ]
    if node.scope:
        sections.insert(0, {"title": "Place", "rows": [("scope", node.scope)]})
    if model is not None:
        sections += _lowered(model, node.name)
    return [section for section in sections if section["rows"]]


def _known(graph: Graph, name: str) -> bool:
    return name in graph.weights or name in graph.constants


def _type(graph: Graph, name: str) -> str:
    kind = graph.types.get(name)
    return f"{kind.dtype} {list(kind.shape)}" if kind else ""


def _stored(graph: Graph, names: Sequence[str]) -> list[tuple[str, str]]:
    rows = []
    for name in names:
        if name in graph.weights:
            ref = graph.weights[name]
            rows.append((name, f"{ref.dtype} {list(ref.shape)}, {format_bytes(ref.length)}"))
        elif name in graph.constants:
            array = graph.constants[name]
            rows.append((name, f"constant {array.dtype} {_value(array)}"))
    return rows


def _value(value: AttributeValue) -> str:
    if isinstance(value, np.ndarray):
        text = str(value.reshape(-1)[:8].tolist()) if value.size <= 8 else f"{list(value.shape)}"
    else:
        text = str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _lowered(model: LoweredModel, name: str) -> list[Section]:
    covering = node_layers(model).get(name)
    if covering is None:
        return [
            {"title": "Kernel", "rows": [("none", "part of a view or a constant; costs nothing")]}
        ]
    layer = model.layers[covering[0]]
    weights = {one: model.weights[one] for at in covering for one in model.layers[at].weights}
    tiles = f", the first of {len(covering)}" if len(covering) > 1 else ""
    return [
        {"title": f"Layer {layer.index}{tiles}", "rows": _work(layer)},
        {"title": "On the device", "rows": [(one.name, _layout(one)) for one in weights.values()]},
    ]


def _work(layer: Layer) -> list[tuple[str, str]]:
    rows = [("kind", layer.kind), ("class", layer.op_class.value)]
    work = layer.work
    if isinstance(work, KernelCall):
        rows += [
            ("kernel", work.template),
            ("global size", " x ".join(map(str, work.global_size))),
            ("local size", " x ".join(map(str, work.local_size))),
        ]
    elif isinstance(work, HostCall):
        rows.append(("kernel", "none: runs on the host"))
    else:
        rows.append(("kernel", "none: rows are read from disk"))
    rows += [
        ("work", f"{layer.flops / 1e6:,.1f} MFLOP"),
        ("reads", format_bytes(layer.bytes_read)),
        ("writes", format_bytes(layer.bytes_written)),
    ]
    if len(layer.nodes) > 1:
        rows.append(("fused nodes", ", ".join(layer.nodes)))
    return rows


def _layout(weight: Weight) -> str:
    if weight.storage is Storage.HOST:
        return f"none: {weight.height} rows stay on disk"
    if weight.storage is Storage.IMAGE2D:
        return (
            f"image {weight.width} x {weight.height} RGBA texels, {weight.dtype}, "
            f"{format_bytes(weight.device_bytes)}"
        )
    return f"buffer of {weight.width} {weight.dtype}, {format_bytes(weight.device_bytes)}"
