"""Structure of a graph: execution order, single definitions, no cycles, no runaway functions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import onnx

from flashmem_lab.errors import ModelError

_INLINED_LIMIT = 1_000_000  # nodes; functions that call functions could grow without bound
_CALL_DEPTH = 32  # torch's and onnxscript's functions nest three or four deep


def label(node: onnx.NodeProto) -> str:
    """How messages name a node: its own name, or its first output's."""
    outputs = [name for name in node.output if name]
    return node.name or (outputs[0] if outputs else "?")


def ordered(nodes: Sequence[onnx.NodeProto], defined: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes so that each comes after what it reads; ties keep the file's order.

    Args:
        nodes: one graph's nodes, in the order of the file.
        defined: names that exist before the first node (inputs, initializers, outer scopes).

    Raises:
        ModelError: a value defined twice, read but never defined, or a cycle.
    """
    outer = set(defined)
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in producer or name in outer:
                raise ModelError(f"value {name!r} is defined twice, again by {label(node)!r}")
            producer[name] = index
    waiting: list[int] = []
    readers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        needs = set()
        for name in _reads(node):
            if name in producer:
                needs.add(producer[name])
            elif name not in outer:
                raise ModelError(
                    f"node {label(node)!r} ({node.op_type}) reads {name!r}, "
                    "which nothing in the model defines"
                )
        waiting.append(len(needs))
        for need in needs:
            readers[need].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    result = []
    while ready:
        index = heapq.heappop(ready)
        result.append(nodes[index])
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    if len(result) < len(nodes):
        stuck = [label(nodes[i]) for i, count in enumerate(waiting) if count][:4]
        raise ModelError(f"the graph has a cycle, through or before {', '.join(map(repr, stuck))}")
    return result


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those captured by its subgraphs included."""
    yield from filter(None, node.input)
    for graph in subgraphs(node):
        yield from _captured(graph)


def _captured(graph: onnx.GraphProto) -> set[str]:
    """Outer names that a subgraph reads."""
    local = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    local |= {name for node in graph.node for name in node.output}
    reads = {name for node in graph.node for name in _reads(node)}
    return (reads | {value.name for value in graph.output}) - local - {""}


def live(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that `outputs` depend on, and every name that they or `outputs` read.

    Args:
        nodes: in execution order.
        outputs: names that must be computed.
    """
    read = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(_reads(node))
    kept.reverse()
    return kept, read - {""}


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def check_functions(model: onnx.ModelProto) -> None:
    """Refuses model-local functions that call themselves or grow too large when inlined.

    Raises:
        ModelError: naming the function.
    """
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def total(nodes: Iterable[onnx.NodeProto], path: tuple[tuple[str, str, str], ...]) -> int:
        if len(path) > _CALL_DEPTH:
            raise ModelError(f"functions call each other more than {_CALL_DEPTH} deep")
        count = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in path:
                raise ModelError(f"function {key[1]!r} calls itself")
            if key in bodies:
                if key not in sizes:
                    sizes[key] = total(bodies[key].node, (*path, key))
                count += sizes[key]
            count += 1 + sum(total(graph.node, path) for graph in subgraphs(node))
            if count > _INLINED_LIMIT:
                raise ModelError(f"the graph has more than {_INLINED_LIMIT} nodes with functions")
        return count

    total(model.graph.node, ())
