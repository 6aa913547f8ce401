"""A Graph as the browser draws it; mirrored by `GraphModel` in widgets/src/core/model.ts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flashmem_lab.graph import Graph
from flashmem_lab.lower.layer import HostCall, LoweredModel
from flashmem_lab.views.wire import encode

SCHEMA = "flashmem-lab/graph-view/1"

_CLASSES = ("elemental", "reusable", "hierarchical", "host", "free", "unknown")
"""Of a node; "free" is one that became part of a view or a constant. Mirrored in model.ts."""


def graph_data(graph: Graph, model: LoweredModel | None = None) -> bytes:
    """Nodes, edges, weight bytes and, where the graph was lowered, classes and layers.

    Args:
        graph: what to draw.
        model: its layers; without them no node has a class.
    """
    layers_of = node_layers(model) if model is not None else {}
    ops, op = _table(node.op_type for node in graph.nodes)
    scopes, scope = _table(node.scope for node in graph.nodes)
    covers = [
        (at, layer) for at, node in enumerate(graph.nodes) for layer in layers_of.get(node.name, ())
    ]
    covered = np.array(covers, np.uint32).reshape(-1, 2)
    sizes = [
        sum(graph.weights[name].length for name in {*node.inputs} if name in graph.weights)
        for node in graph.nodes
    ]
    maker = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs}
    edges = sorted(
        {
            (maker[name], index)
            for index, node in enumerate(graph.nodes)
            for name in node.inputs
            if name in maker
        }
    )
    return encode(
        SCHEMA,
        {
            "name": graph.name,
            "names": [node.name for node in graph.nodes],
            "ops": ops,
            "scopes": scopes,
        },
        {
            "op": op,
            "scope": scope,
            "opClass": np.array(
                [_class(model, layers_of.get(node.name)) for node in graph.nodes], np.uint8
            ),
            "coverNode": covered[:, 0],
            "coverLayer": covered[:, 1],
            "weightBytes": np.array(sizes, np.float64),
            "edges": np.array(edges, np.uint32).reshape(-1),
        },
    )


def node_layers(model: LoweredModel) -> dict[str, list[int]]:
    """The layers that cover each ONNX node, by the node's name; several where one was tiled."""
    found: dict[str, list[int]] = {}
    for layer in model.layers:
        for name in layer.nodes:
            found.setdefault(name, []).append(layer.index)
    return found


def _class(model: LoweredModel | None, layers: list[int] | None) -> int:
    if model is None:
        return _CLASSES.index("unknown")
    if layers is None:
        return _CLASSES.index("free")
    layer = model.layers[layers[0]]
    hosted = isinstance(layer.work, HostCall)
    return _CLASSES.index("host" if hosted else layer.op_class.value)


def _table(words: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Distinct words in order of appearance, and the number of each one given."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(word, len(known)) for word in words]
    return list(known), np.array(numbers, np.uint32)
