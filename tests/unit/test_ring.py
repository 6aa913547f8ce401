"""Places of streamed weights in a ring: nothing needed is overwritten, nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.program.container import ALIGNMENT, align
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.filemap import PIECE
from flashmem_lab.runtime.ring import ring_of, room_for_ring, row_of
from tests.unit.test_arena import program_of

WEIGHT = st.tuples(st.integers(1, 5 * ALIGNMENT), st.integers(0, 9), st.integers(0, 4))
"""Bytes, the layer that uses it, how early it is made."""


def in_order(program: Program) -> list[str]:
    """The weights, as they are read."""
    return list(dict.fromkeys(read.weight for read in program.disk))


def spans(program: Program, ring: Arena) -> dict[str, range]:
    return {
        name: range(begin, begin + align(program.objects[name].bytes))
        for name, begin in ring.offsets.items()
    }


def overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def left_waiting(program: Program, weights: list[str], places: dict[str, range]) -> list[str]:
    """Runs a program twice, reading in order into places that were freed; what never gets read."""
    uploads = {upload.id: upload.weight for upload in program.transfer}
    memory = [one for _ in range(2) for one in program.memory if not isinstance(one, Alloc)]
    steps = list(program.compute) * 2
    to_read = weights * 2
    lies: set[str] = set()
    done = 0
    while True:
        before = (len(to_read), len(memory), done)
        while to_read and not any(overlap(places[to_read[0]], places[one]) for one in lies):
            lies.add(to_read.pop(0))
        while memory:
            last = max(i for i, step in enumerate(program.compute) if step.id in memory[0].after)
            last += len(program.compute) * (len(memory) <= len(program.memory) // 2)
            while (
                done <= last
                and {uploads[one] for one in steps[done].after if one in uploads} <= lies
            ):
                done += 1
            if done <= last:
                break
            lies.discard(memory.pop(0).object)
        if before == (len(to_read), len(memory), done):
            return to_read


@given(st.lists(WEIGHT, min_size=1, max_size=12), st.integers(1, 30), st.data())
def test_what_is_needed_fits_and_comes(
    weights: list[tuple[int, int, int]], pages: int, data: st.DataObject
) -> None:
    """In whatever order they are read."""
    program = program_of([(1, 0, 9)], weights)
    names, room = data.draw(st.permutations(in_order(program))), pages * ALIGNMENT
    ring = ring_of(program, names, room)
    if ring is None:  # then what one layer needs, with what is read before it, has no room
        assert sum(align(program.objects[name].bytes) for name in names) > room
        return
    places = spans(program, ring)
    assert {*places} == {*names}
    assert ring.bytes <= room
    for place in places.values():
        assert place.start % ALIGNMENT == 0
        assert 0 <= place.start < place.stop <= ring.bytes
    assert left_waiting(program, names, places) == []


def test_each_lies_behind_the_one_before_and_then_at_the_beginning_again() -> None:
    program = program_of([(1, 0, 9)], [(ALIGNMENT, at, 0) for at in range(5)])
    ring = ring_of(program, in_order(program), 2 * ALIGNMENT)
    assert ring is not None
    assert [begin // ALIGNMENT for begin in ring.offsets.values()] == [0, 1, 0, 1, 0]


def test_weights_of_one_layer_do_not_share_a_place() -> None:
    program = program_of([(1, 0, 9)], [(ALIGNMENT, 3, 0)] * 3)
    assert ring_of(program, in_order(program), 2 * ALIGNMENT) is None
    ring = ring_of(program, in_order(program), 3 * ALIGNMENT)
    assert ring is not None
    assert len({*ring.offsets.values()}) == 3


def test_a_large_ring_is_made_of_large_pages() -> None:
    program = program_of([(1, 0, 9)], [(PIECE, at, 0) for at in range(5)])
    ring = ring_of(program, in_order(program), 3 * PIECE - 1)
    assert ring is not None
    assert ring.bytes == 2 * PIECE


def test_a_ring_with_room_for_all_has_all() -> None:
    program = program_of([(1, 0, 9)], [(PIECE + ALIGNMENT, 2, 0)])
    assert ring_of(program, ["w0"], 2 * PIECE) == Arena(2 * PIECE, {"w0": 0})


def test_the_room_is_what_the_rest_leaves() -> None:
    program = program_of([(7, 0, 9)], [(100, 2, 0), (100, 5, 0)], peak_bytes=300)
    assert room_for_ring(program, activations=7) == 293


def test_in_a_row_no_two_share_a_large_page() -> None:
    program = program_of([(1, 0, 9)], [(PIECE + 1, 0, 0), (5, 1, 0)])
    row = row_of(program, in_order(program))
    assert row == Arena(3 * PIECE, {"w0": 0, "w1": 2 * PIECE})
