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

from flashmem_lab.program.container import align
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.filemap import PIECE


def room_for_ring(program: Program, activations: int) -> int:
    """Bytes that are there throughout for streamed weights, beside what is there throughout.

    Args:
        program: sound.
        activations: bytes of all of them together.
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
    size = min(room, sum(align(program.objects[name].bytes) for name in weights))
    size = size // PIECE * PIECE if size >= PIECE else size
    freed = {one.object: at for at, one in enumerate(program.memory) if not isinstance(one, Alloc)}
    offsets: dict[str, int] = {}
    busy: list[tuple[int, int, int]] = []  # from, to, when it is freed
    cursor = 0
    for name, awaited in zip(weights, _awaited(program, weights), strict=True):
        busy = [one for one in busy if one[2] >= awaited]
        begin = _gap(cursor, align(program.objects[name].bytes), size, busy)
        if begin is None:
            return None
        cursor = begin + align(program.objects[name].bytes)
        busy.append((begin, cursor, freed.get(name, len(program.memory))))
        offsets[name] = begin
    return Arena(size, offsets)


def row_of(program: Program, weights: Sequence[str]) -> Arena:
    """A place of its own for each weight, from a multiple of 2 MiB: no two share a page."""
    sizes = [-(-program.objects[name].bytes // PIECE) * PIECE for name in weights]
    begins = list(accumulate(sizes, initial=0))
    return Arena(begins[-1], dict(zip(weights, begins, strict=False)))


def _awaited(program: Program, weights: Sequence[str]) -> list[int]:
    """How much of the memory order is done for certain when a weight is waited for.

    That is up to the first command that waits for the layer that uses it, or for one that uses a
    weight that is read behind it.
    """
    weight_of = {upload.id: upload.weight for upload in program.transfer}
    place = {command.id: at for at, command in enumerate(program.compute)}
    first_use: dict[str, int] = {}
    for at, step in enumerate(program.compute):
        for one in step.after:
            if one in weight_of:
                first_use.setdefault(weight_of[one], at)
    done = accumulate(
        (
            -1 if isinstance(one, Alloc) else max((place[id_] for id_ in one.after), default=-1)
            for one in program.memory
        ),
        max,
    )
    waits = list(done)  # through which step each memory command, or one before it, waits
    last = len(program.compute)
    found = [bisect_left(waits, first_use.get(name, last)) for name in weights]
    return list(accumulate(reversed(found), min))[::-1]


def _gap(cursor: int, size: int, whole: int, busy: Sequence[tuple[int, int, int]]) -> int | None:
    """Where `size` bytes have room, from the cursor on if possible."""
    ends = sorted(end for _, end, _ in busy)
    behind = bisect_left(ends, cursor)
    for begin in (cursor, *ends[behind:], 0, *ends[:behind]):
        end = begin + size
        if end <= whole and all(to <= begin or end <= start for start, to, _ in busy):
            return begin
    return None
