"""Root mean square normalisation that an exporter spelled out, found on the graph.

Llama, Qwen and SmolLM have one to three of them a block, as x * x (or Pow), ReduceMean, + epsilon,
Sqrt, and then x / that, x * Reciprocal(that) or x * (1 / that); or as Pow by -0.5 in place of Sqrt.
Every form is one row kernel. Half of such a model's launches go with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flashmem_lab.graph.model import Graph, Node
from flashmem_lab.lower.context import Context, integer, integers
from flashmem_lab.lower.ops.norm import normalised


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """One normalisation.

    Attributes:
        last: the node that computes its result.
        inner: the nodes before, whose results nothing else reads.
        x: what is normalised.
        axes: over which.
        epsilon: added to the mean of the squares.
    """

    last: Node
    inner: tuple[Node, ...]
    x: str
    axes: tuple[int, ...]
    epsilon: float


def rms_norms(graph: Graph) -> Mapping[str, RmsNorm]:
    """The normalisations of a graph, by the name of each node that takes part."""
    search = _Search(graph)
    found = [norm for node in graph.nodes if (norm := search.ending_in(node)) is not None]
    return {node.name: norm for norm in found for node in (*norm.inner, norm.last)}


def lower_norm(ctx: Context, norm: RmsNorm) -> None:
    """Adds the operations of one, which covers all of its nodes."""
    first = len(ctx.ops)
    source = ctx.device(norm.x)
    normalised(ctx, norm.last, source, norm.axes, norm.epsilon, None, None, centred=False)
    ctx.ops[first].nodes += [node.name for node in norm.inner]


class _Search:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._makers = {name: node for node in graph.nodes for name in node.outputs}
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(graph.outputs)

    def ending_in(self, node: Node) -> RmsNorm | None:
        """The normalisation whose result `node` computes."""
        if node.op_type == "Div":
            return self._of(node, node.inputs[0], self._root(node.inputs[1]))
        if node.op_type == "Mul":
            for x, factor in (node.inputs, node.inputs[::-1]):
                norm = self._of(node, x, self._inverse_root(factor))
                if norm is not None:
                    return norm
        return None

    def _of(self, last: Node, x: str, root: tuple[str, list[Node]] | None) -> RmsNorm | None:
        """The normalisation of x by the root of a value, if that is x's mean square + epsilon."""
        if root is None or self._graph.types[x].dtype != "float32":
            return None
        total, inner = root
        added = self._single(total, "Add")
        for mean_name, epsilon in (added.inputs, added.inputs[::-1]) if added else ():
            number = self._number(epsilon)
            mean = self._single(mean_name, "ReduceMean")
            squares = mean and self._squares(mean.inputs[0], x)
            if added and mean and squares and number is not None and integer(mean, "keepdims", 1):
                axes = self._axes(mean, len(self._graph.types[x].shape))
                if axes:
                    return RmsNorm(last, (squares, mean, added, *inner), x, axes, number)
        return None

    def _squares(self, name: str, x: str) -> Node | None:
        node = self._single(name, "Mul")
        if node is not None and node.inputs == (x, x):
            return node
        node = self._single(name, "Pow")
        if node is not None and node.inputs[0] == x and self._number(node.inputs[1]) == 2.0:
            return node
        return None

    def _root(self, name: str) -> tuple[str, list[Node]] | None:
        """The value whose square root `name` is, and the node that takes it."""
        node = self._single(name, "Sqrt")
        if node is not None:
            return node.inputs[0], [node]
        node = self._single(name, "Pow")
        if node is not None and self._number(node.inputs[1]) == 0.5:
            return node.inputs[0], [node]
        return None

    def _inverse_root(self, name: str) -> tuple[str, list[Node]] | None:
        """The value the inverse of whose square root `name` is, and the nodes between."""
        node = self._single(name, "Pow")
        if node is not None and self._number(node.inputs[1]) == -0.5:
            return node.inputs[0], [node]
        node = self._single(name, "Reciprocal")
        if node is None:
            node = self._single(name, "Div")
            if node is None or self._number(node.inputs[0]) != 1.0:
                return None
        root = self._root(node.inputs[-1])
        return None if root is None else (root[0], [*root[1], node])

    def _single(self, name: str, op_type: str) -> Node | None:
        """The node of that type that makes `name`, if one other node alone reads it."""
        node = self._makers.get(name)
        alone = node is not None and node.op_type == op_type and self._uses[name] == 1
        return node if alone else None

    def _number(self, name: str) -> float | None:
        value = self._graph.constants.get(name)
        return float(np.ravel(value)[0]) if value is not None and value.size == 1 else None

    def _axes(self, mean: Node, rank: int) -> tuple[int, ...]:
        """The axes of a ReduceMean, counted from the front; none where they are not known."""
        axes = integers(mean, "axes", ())
        if len(mean.inputs) > 1 and mean.inputs[1]:
            value = self._graph.constants.get(mean.inputs[1])
            axes = () if value is None else tuple(int(axis) for axis in np.ravel(value))
        return tuple(sorted(axis % rank for axis in axes))
