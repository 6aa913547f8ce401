"""Layout report: which operations only move elements, and why each could not be eliminated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from flashmem_lab.graph.model import Graph
from flashmem_lab.lower.ir import Op, Ref, Tensor
from flashmem_lab.lower.layer import Copy, Layout

MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that move elements and compute nothing."""

_OWN_KERNEL = {
    "pad": "a border has to be written around what is computed",
    "gather": "rows are chosen at run time",
}


def layout_of(graph: Graph, ops: Sequence[Op], outputs: Iterable[Ref]) -> Layout:
    """Counts nodes that only move elements, and the kernels that are left of them.

    Args:
        graph: what was lowered.
        ops: one for each layer, in order.
        outputs: of the graph.
    """
    moving = {node.name for node in graph.nodes if node.op_type in MOVES}
    readers: dict[Tensor, set[Op]] = defaultdict(set)
    writers: dict[Tensor, set[Op]] = defaultdict(set)
    for op in ops:
        for ref in op.reads():
            readers[ref.tensor].add(op)
        for ref in op.writes():
            writers[ref.tensor].add(op)
    given = {ref.tensor for ref in outputs}
    copies = tuple(
        Copy(
            layer,
            op.nodes[0],
            op.out.touched,
            _OWN_KERNEL.get(op.kind) or _reason(op, readers, writers, given),
        )
        for layer, op in enumerate(ops)
        if op.is_copy or op.kind in _OWN_KERNEL
    )
    costing = {name for copy in copies for name in ops[copy.layer].nodes}
    return Layout(len(moving), len(moving - costing), copies)


def _reason(
    op: Op,
    readers: dict[Tensor, set[Op]],
    writers: dict[Tensor, set[Op]],
    outputs: set[Tensor],
) -> str:
    """Why a copy is there, from the nearest cause to the last resort."""
    source, target = op.extras[0].tensor, op.out.tensor
    joins = len(writers[target]) > 1
    if target in outputs and (source.input or source.weight):
        return "a graph output is not an input or a weight itself"
    if any(reader.kind == "host" for reader in readers[target]):
        return "the host reads a dense block"
    if source.input or source.weight:
        becomes = "a piece of a larger tensor" if joins else "a tensor in another order"
        return f"{'an input' if source.input else 'a weight'} becomes {becomes}"
    if len(writers[source]) > 1:
        return "a Concat of a Concat: the pieces that it joins are written one by one"
    moved = {reader for reader in readers[source] if reader.is_copy}
    if len(moved) > 1 and moved == readers[source] and moved <= writers[target]:
        return "ranges of one tensor join in another order (a roll): no stride expresses that"
    if joins and len(readers[source]) > 1:
        return "other layers read the piece: in place, the whole would be held from then on"
    if len(readers[source]) > 1:
        return "readers want it in different orders"
    return "no index map joins the two shapes"
