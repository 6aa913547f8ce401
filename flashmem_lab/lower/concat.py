"""Concatenations: element-wise work is done piece by piece, so that no piece is copied first.

A Concat is lowered to one copy for each input. Where its result is only worked on element by
element (a class token and patches, plus their positions), every piece can be computed from its own
source and written where the result wants it; where a piece is taken out again, its source is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from flashmem_lab.lower.ir import Op, Ref, Tensor


def spread_concats(ops: list[Op], kept: Iterable[Tensor]) -> list[Op]:
    """Takes the copies of concatenations out where readers can do without the whole.

    Args:
        ops: in execution order, not fused yet.
        kept: tensors that must exist at the end.

    Returns:
        The operations left, in execution order.
    """
    whole = set(kept)
    writers: dict[Tensor, list[Op]] = defaultdict(list)
    for op in ops:
        for ref in op.writes():
            writers[ref.tensor].append(op)
    joined = {
        tensor: copies
        for tensor, copies in writers.items()
        if len(copies) > 1 and tensor not in whole and all(op.is_copy for op in copies)
    }
    for op in ops:
        for ref in op.reads():
            copies = joined.get(ref.tensor, [])
            inner = op.out.tensor in joined  # a piece of a concatenation is one view
            pieced = op.kind == "map" and not inner and _axis(ref, copies) is not None
            if copies and not pieced and all(copy.out != ref for copy in copies):
                del joined[ref.tensor]  # it must exist as a whole
    gone = {op for copies in joined.values() for op in copies}
    result: list[Op] = []
    for op in ops:
        if op not in gone:
            result += _piece_by_piece(_from_sources(op, joined), joined)
    return result


def _from_sources(op: Op, joined: dict[Tensor, list[Op]]) -> Op:
    """The operation, reading operands that are exactly one piece from where they come."""

    def source(ref: Ref) -> Ref:
        for copy in joined.get(ref.tensor, ()):
            if copy.out == ref:
                return source(copy.extras[0])
        return ref

    extras = [source(ref) for ref in op.extras]
    return replace(op, extras=extras, operands={n: source(r) for n, r in op.operands.items()})


def _piece_by_piece(op: Op, joined: dict[Tensor, list[Op]]) -> list[Op]:
    """A map of a whole concatenation as maps of its pieces, each for its part of the output."""
    for slot, ref in enumerate(op.extras):
        copies = joined.get(ref.tensor, [])
        axis = _axis(ref, copies)
        if axis is None:
            continue
        pieces, start = [], 0
        for copy in copies:
            count = copy.out.shape[axis]
            cut = [extra.slice(axis, start, count) for extra in op.extras]
            cut[slot] = copy.extras[0]
            piece = replace(
                op,
                nodes=[*copy.nodes, *op.nodes],
                out=op.out.slice(axis, start, count),
                extras=cut,
                flops=op.flops * count // ref.shape[axis],
            )
            pieces += _piece_by_piece(_from_sources(piece, joined), joined)
            start += count
        return pieces
    return [op]


def _axis(whole: Ref, copies: list[Op]) -> int | None:
    """The dimension of `whole` along which the copies follow each other, if there is one."""
    if not copies or whole.offset or whole.size != whole.tensor.size:
        return None
    for axis, extent in enumerate(whole.shape):
        start = 0
        for copy in copies:
            count = copy.out.shape[axis] if len(copy.out.shape) == len(whole.shape) else extent
            if start + count > extent or copy.out != whole.slice(axis, start, count):
                break
            start += count
        else:
            if start == extent:
                return axis
    return None
