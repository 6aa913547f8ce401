"""Parts: where a fused operation can be cut into layers again, and what each piece costs.

A cut needs one value alone to pass from what is before it to what is after it: kept in memory, that
value makes two layers of one. A bias or a factor stays with what it is added to: a layer of its own
would move far more than it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from flashmem_lab.lower.ir import Op, Tensor
from flashmem_lab.lower.layer import OperatorClass, Part


def parts_of(pieces: Sequence[Op]) -> tuple[Part, ...]:
    """Groups the operations that became one into the layers that it can be cut into.

    Args:
        pieces: the operations before fusion, each after those whose results it reads.

    Returns:
        Two parts or more, without the bytes of textures; none where no cut is possible.
    """
    cuts = [
        at
        for at in range(1, len(pieces))
        if _crosses_alone(pieces, at) and not _belongs_to_producer(pieces, at)
    ]
    if not cuts:
        return ()
    bounds = [0, *cuts, len(pieces)]
    return tuple(_part(pieces[start:stop]) for start, stop in pairwise(bounds))


def part_of(part: Part, count: int, total: int) -> Part:
    """The share of `part` that a tile of `count` of `total` channels has."""
    return replace(
        part,
        flops=part.flops * count // total,
        bytes_read=part.bytes_read * count // total,
        bytes_written=part.bytes_written * count // total,
    )


def _crosses_alone(pieces: Sequence[Op], at: int) -> bool:
    """True if what `pieces[at - 1]` computes is all that the pieces from `at` on need."""
    written = {ref.tensor for op in pieces[:at] for ref in op.writes()}
    crossing = {ref.tensor for op in pieces[at:] for ref in op.reads()} & written
    return crossing == {pieces[at - 1].out.tensor}


def _belongs_to_producer(pieces: Sequence[Op], at: int) -> bool:
    """True for a copy, a bias and a factor, unless what they read is needed again later."""
    op = pieces[at]
    activations = {ref.tensor for ref in op.reads() if not ref.tensor.weight}
    small = op.kind == "map" and op.body.affine and len(activations) <= 1
    return small and (at + 1 == len(pieces) or _crosses_alone(pieces, at + 1))


def _part(pieces: Sequence[Op]) -> Part:
    anchor = next((op for op in pieces if op.kind != "map"), pieces[0])
    written: set[Tensor] = {op.out.tensor for op in pieces}
    read = {ref for op in pieces for ref in op.reads() if ref.tensor not in written}
    return Part(
        name=pieces[0].nodes[0],
        value=pieces[-1].out.tensor.name,
        kind=anchor.costs_as,
        op_class=anchor.op_class if anchor.kind != "map" else OperatorClass.ELEMENTAL,
        flops=sum(op.flops for op in pieces),
        bytes_read=sum(ref.touched for ref in read),
        bytes_written=pieces[-1].out.touched,
        nodes=tuple(dict.fromkeys(name for op in pieces for name in op.nodes)),
    )
