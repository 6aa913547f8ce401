"""Weights and activations in one buffer: who lies where another was, and what it waits for."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, Free, Program
from flashmem_lab.runtime.arena import arena_of
from flashmem_lab.runtime.places import Places, places_of
from tests.unit.test_arena import ALIGNMENT, LIFE, program_of


def _ends(program: Program) -> dict[str, int]:
    """Place in the memory order at which each object ends; pinned ones never do."""
    never = dict.fromkeys(program.objects, len(program.memory))
    frees = enumerate(program.memory)
    return never | {c.object: at for at, c in frees if not isinstance(c, Alloc)}


def _begins(program: Program) -> dict[str, int]:
    return {c.object: at for at, c in enumerate(program.memory) if isinstance(c, Alloc)}


def _needed(program: Program, weight: str) -> int:
    """Place of the Free that has the first launch with `weight` enqueued, or a later launch."""
    order = [command.id for command in program.compute]
    upload = next(one for one in program.transfer if one.weight == weight)
    first = next(at for at, c in enumerate(program.compute) if upload.id in c.after)
    return next(
        at
        for at, command in enumerate(program.memory)
        if not isinstance(command, Alloc)
        and max(order.index(one) for one in command.after) >= first
    )


def _check(program: Program, places: Places) -> None:
    ends, begins = _ends(program), _begins(program)
    spans = {
        name: (places.offsets[name], places.offsets[name] + item.bytes)
        for name, item in program.objects.items()
    }
    for begin, end in spans.values():
        assert begin % ALIGNMENT == 0
        assert 0 <= begin <= end <= places.bytes
    assert places.bytes + program.staging_bytes <= program.predicted_peak_bytes
    weights = {n for n, item in program.objects.items() if item.pool is Pool.TEXTURE}
    assert all(spans[n][0] >= places.weight_bytes for n in program.objects.keys() - weights)
    for pair in combinations(program.objects, 2):
        (one, other) = sorted(pair, key=begins.__getitem__)
        if spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]:
            continue
        if one in weights and other not in weights:
            # The compute queue writes the activation behind all that reads the weight, or the
            # weight is put off until the activation is over.
            assert ends[one] < begins[other] or _comes_behind(program, places, one, other)
        elif other in weights:
            assert _comes_behind(program, places, other, one)
        else:
            assert ends[one] < begins[other]


def _comes_behind(program: Program, places: Places, weight: str, before: str) -> bool:
    """Whether a weight waits for an object, or another that ends later, and can."""
    ends = _ends(program)
    awaited = ends[places.behind[weight]] if weight in places.behind else -1
    return ends[before] <= awaited < _needed(program, weight)


@given(st.lists(LIFE, max_size=8), st.lists(LIFE, min_size=1, max_size=10), st.integers(0, 400))
def test_nothing_is_written_over_before_it_is_over(
    activations: list[tuple[int, int, int]], weights: list[tuple[int, int, int]], more: int
) -> None:
    program = program_of(activations, weights)
    program = replace(program, predicted_peak_bytes=program.predicted_peak_bytes + more)
    places = places_of(program, ALIGNMENT)
    if places is not None:
        _check(program, places)
        written = [
            range(places.offsets[name], places.offsets[name] + item.bytes)
            for name, item in program.objects.items()
            if item.pool is Pool.TEXTURE
        ]
        for name, item in program.objects.items():
            begin, end = places.offsets[name], places.offsets[name] + item.bytes
            over = any(begin < one.stop and one.start < end for one in written)
            assert (name in places.lasting) == (item.pool is Pool.BUFFER and not over)


@given(st.lists(LIFE, max_size=8), st.lists(LIFE, min_size=1, max_size=10))
def test_with_room_for_everything_nothing_waits(
    activations: list[tuple[int, int, int]], weights: list[tuple[int, int, int]]
) -> None:
    program = program_of(activations, weights, peak_bytes=2**20)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    _check(program, places)
    assert not places.behind


def _pinned(program: Program, *names: str) -> Program:
    """`program` with some weights made once, before all else, and never freed."""
    made = [
        replace(command, once=True)
        for command in program.memory
        if isinstance(command, Alloc) and command.object in names
    ]
    rest = [command for command in program.memory if command.object not in names]
    return replace(program, memory=(*made, *rest))


def test_pinned_weights_are_never_written_over() -> None:
    """Room for the pinned weight and one more, the staging ring apart."""
    weights = [(64, 1, 0), (128, 3, 0), (128, 5, 2), (128, 7, 2)]
    program = replace(
        _pinned(program_of([], weights), "w0"), predicted_peak_bytes=192 + 32, staging_bytes=32
    )
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.offsets == {"w0": 0, "w1": 64, "w2": 64, "w3": 64}
    assert places.behind == {"w2": "w1", "w3": "w2"}
    _check(program, places)


def test_a_weight_comes_where_it_can_come_soonest() -> None:
    """Two halves: the third weight follows the first one, which ends first, the fourth the second.

    The plan makes each as its layer begins; here both come earlier than that.
    """
    program = program_of([], [(64, 1, 0), (64, 3, 0), (64, 5, 0), (64, 7, 0)], peak_bytes=128)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.behind == {"w2": "w0", "w3": "w1"}


def test_each_layer_can_have_the_place_of_the_one_before() -> None:
    program = program_of([], [(128, at, 0) for at in range(1, 6)], peak_bytes=128)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.behind == {f"w{at}": f"w{at - 1}" for at in range(1, 5)}


def test_what_is_left_of_a_place_is_still_of_the_one_before() -> None:
    program = program_of([], [(192, 1, 0), (64, 3, 0), (64, 5, 0), (64, 7, 0)], peak_bytes=192)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.offsets == {"w0": 0, "w1": 0, "w2": 64, "w3": 128}
    assert set(places.behind.values()) == {"w0"}


def test_a_weight_waits_although_the_one_copied_before_waits_as_long() -> None:
    program = program_of([(320, 0, 1)], [(256, 5, 0), (64, 7, 0)], peak_bytes=320)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.behind == {"w0": "a0", "w1": "a0"}


def test_a_weight_lies_where_an_activation_was() -> None:
    program = program_of([(256, 0, 1)], [(256, 5, 0)], peak_bytes=256)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.behind == {"w0": "a0"}
    assert places.lasting == frozenset()


def test_an_activation_under_a_weight_comes_and_goes_in_every_run() -> None:
    """Though what is waited for is another one, which ends later."""
    program = program_of([(256, 0, 0), (256, 0, 1)], [(512, 5, 0)], peak_bytes=512)
    places = places_of(program, ALIGNMENT)
    assert places is not None
    assert places.behind == {"w0": "a1"}
    assert places.lasting == frozenset()


def test_a_free_may_wait_for_nothing_that_is_computed() -> None:
    """So may those of programs that were made by hand."""
    program = program_of([(64, 0, 1)], [(64, 5, 0)])
    idle = [
        replace(c, after=()) if isinstance(c, Free) and c.object == "a0" else c
        for c in program.memory
    ]
    assert places_of(replace(program, memory=tuple(idle)), ALIGNMENT) is not None


@pytest.mark.parametrize("short", [0, ALIGNMENT])
def test_without_room_there_are_no_places(short: int) -> None:
    activations, weights = [(256, 0, 9)], [(128, 2, 0), (64, 2, 0)]
    program = program_of(activations, weights, peak_bytes=256 + 192 - short)
    assert (places_of(program, ALIGNMENT) is None) == bool(short)
    crowded = _pinned(program_of(activations, weights, peak_bytes=256), "w0")
    assert places_of(crowded, ALIGNMENT) is None


def test_activations_that_share_places_take_what_the_better_of_two_orders_takes() -> None:
    """Largest first leaves a hole that those which end last, placed first, do not."""
    activations = [(128, 2, 2), (192, 1, 1), (128, 3, 1), (128, 4, 3)]
    program = program_of(activations, [], peak_bytes=2**20)
    assert arena_of(program, ALIGNMENT).bytes == 384
