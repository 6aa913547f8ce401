"""Places for streamed weights in memory of the host, in the order in which they are read.

A weight that is read past the system's cache needs memory of its own, and new memory costs a fault
and zeros for each of its pages. So the same memory is used again and again, as a ring: what is read
next lies behind what was read last, and the disk can go on as far as the ring has room, whatever
the device is at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.container import align
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import Arena, lives_of
from flashmem_lab.runtime.filemap import PIECE
from flashmem_lab.runtime.places import forced_at


def room_for_ring(program: Program, activations: int) -> int:
    """Bytes that the budget always has for streamed weights; less than 0 if it has not.

    Args:
        program: sound.
        activations: the most bytes that they take.
    """
    stay = sum(
        program.objects[one.object].bytes
        for one in program.memory
        if isinstance(one, Alloc) and one.once
    )
    return program.predicted_peak_bytes - program.staging_bytes - stay - activations


def ring_of(program: Program, weights: Sequence[str], room: int) -> Arena | None:
    """Places in a ring: each behind the one before, or at the beginning again.

    A weight is read when what lay in its place has been freed, and those behind it after it. So
    none lies where one lies that is freed only after somebody waits for it, or for one behind it:
    they would wait for each other.

    Args:
        program: sound.
        weights: those that are read in every run, in the order in which they are.
        room: bytes; pieces of 2 MiB that it does not hold whole are left out.

    Returns:
        Places, at multiples of ALIGNMENT; None if there is no room.
    """
    most = sum(align(program.objects[name].bytes) for name in weights)
    size = min(room, -(-most // PIECE) * PIECE)
    size = size // PIECE * PIECE if size >= PIECE else size
    freed = {life.name: life.end for life in lives_of(program, Pool.TEXTURE)}
    forced = forced_at(program)
    # One that is read behind it may have to come sooner.
    awaited = list(accumulate((forced[name] for name in reversed(weights)), min))[::-1]
    offsets: dict[str, int] = {}
    busy: list[tuple[int, int, int]] = []  # from, to, when it is freed
    cursor = 0
    for name, at in zip(weights, awaited, strict=True):
        busy = [one for one in busy if one[2] >= at]
        begin = _gap(cursor, align(program.objects[name].bytes), size, busy)
        if begin is None:
            return None
        cursor = begin + align(program.objects[name].bytes)
        busy.append((begin, cursor, freed[name]))
        offsets[name] = begin
    return Arena(size, offsets)


def row_of(program: Program, weights: Sequence[str]) -> Arena:
    """A place of its own for each weight, from a multiple of 2 MiB: no two share a page."""
    sizes = [-(-program.objects[name].bytes // PIECE) * PIECE for name in weights]
    begins = list(accumulate(sizes, initial=0))
    return Arena(begins[-1], dict(zip(weights, begins, strict=False)))


def _gap(cursor: int, size: int, whole: int, busy: Sequence[tuple[int, int, int]]) -> int | None:
    """Where `size` bytes have room, from the cursor on if possible."""
    ends = sorted(end for _, end, _ in busy)
    behind = bisect_left(ends, cursor)
    for begin in (cursor, *ends[behind:], 0, *ends[:behind]):
        end = begin + size
        if end <= whole and all(to <= begin or end <= start for start, to, _ in busy):
            return begin
    return None
