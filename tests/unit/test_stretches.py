"""How the compute lane of later runs is cut into launches that do not change, and the others."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import HostCall, LoweredModel
from flashmem_lab.program import build_program
from flashmem_lab.program.program import (
    Alloc,
    HostStep,
    Launch,
    Move,
    Program,
    ReadOutput,
    WriteInput,
)
from flashmem_lab.runtime.stretches import LaterRuns, Stretch
from tests.unit.program_samples import layer, model_of, packed_of, plan_of, renderer, view, weight

LAYERS = 7


def chain(layers: int = LAYERS, host: int = -1) -> LoweredModel:
    """Layer i reads b{i} and w{i}, writes b{i + 1}; layer `host` runs on the host."""
    step = HostCall(b"", inputs=(("a", view(f"b{host}")),), outputs=(("c", view(f"b{host + 1}")),))
    made = [
        layer(i, [f"b{i}"], [f"b{i + 1}"], [], work=step)
        if i == host
        else layer(i, [f"b{i}"], [f"b{i + 1}"], [f"w{i}"])
        for i in range(layers)
    ]
    return model_of(made, [weight(f"w{i}", 4) for i in range(layers) if i != host])


def program_of(
    model: LoweredModel, streamed: set[int], transport: Transport = Transport.COPY
) -> Program:
    load_at = {f"w{i}": max(0, i - 1) for i in streamed}
    plan = plan_of(model, load_at, transport)
    return build_program(plan, model, packed_of(model), renderer=renderer)


def buffers(program: Program) -> frozenset[str]:
    return frozenset(name for name in program.objects if name.startswith("b"))


def shape_of(later: LaterRuns) -> list[object]:
    """Layers of stretches as lists, other steps by what they are and their layer."""
    return [
        [launch.layer for launch in step.launches]
        if isinstance(step, Stretch)
        else (type(step), step.layer)
        for step in later.steps
    ]


def test_streamed_weights_part_stretches() -> None:
    program = program_of(chain(), {2})
    later = LaterRuns.of(program, buffers(program))
    assert shape_of(later) == [
        (WriteInput, 0),
        [0, 1],
        (Launch, 2),
        [3, 4, 5, 6],
        (ReadOutput, 6),
    ]
    assert later.stretches[1].name == "layer3 .. layer6 (4 launches)"
    assert later.stretches[1].layer == 6


def test_a_weight_with_a_place_of_its_own_begins_a_stretch() -> None:
    program = program_of(chain(), {0, 2, 5})
    later = LaterRuns.of(program, buffers(program), {"w0", "w2"})
    assert shape_of(later)[1:-1] == [[0, 1], [2, 3, 4], (Launch, 5), (Launch, 6)]
    first, second = later.stretches
    weight_of = {one.id: one.weight for one in program.transfer}
    assert [weight_of[one] for one in first.after] == ["w0"]
    assert [weight_of[one] for one in second.after] == ["w2"]
    assert first.ending == second.ending == (0,)
    assert not first.lasting


def test_one_launch_is_no_stretch() -> None:
    program = program_of(chain(), {1, 3, 5})
    assert LaterRuns.of(program, buffers(program)).stretches == ()


def test_host_steps_part_stretches() -> None:
    program = program_of(chain(host=3), set())
    later = LaterRuns.of(program, buffers(program))
    assert shape_of(later)[1:-1] == [[0, 1, 2], (HostStep, 3), [4, 5, 6]]


def test_activations_without_lasting_places_are_in_no_stretch() -> None:
    program = program_of(chain(), set())
    assert LaterRuns.of(program, frozenset()).stretches == ()
    # b3 is written by layer 2 and read by layer 3.
    later = LaterRuns.of(program, buffers(program) - {"b3"})
    assert shape_of(later)[1:-1] == [[0, 1], (Launch, 2), (Launch, 3), [4, 5, 6]]


def test_kernels_that_carry_chunks_are_in_no_stretch() -> None:
    program = program_of(chain(), {6})
    upload = next(one for one in program.transfer if not one.once)
    compute = tuple(
        replace(one, carries=(upload.id,)) if isinstance(one, Launch) and one.layer == 3 else one
        for one in program.compute
    )
    later = LaterRuns.of(replace(program, compute=compute), buffers(program))
    assert shape_of(later)[1:-1] == [[0, 1, 2], (Launch, 3), [4, 5], (Launch, 6)]


def test_chunks_that_were_moved_once_are_not_moved_again() -> None:
    program = program_of(chain(), {6})
    move = Move(-1, 0, "w0", 0, (1,), (1,), once=True, after=(), carries=())
    later = LaterRuns.of(replace(program, compute=(move, *program.compute)), buffers(program))
    assert move.id in later.done
    assert move not in later.steps


def test_a_launch_that_another_lane_waits_for_stays_by_itself() -> None:
    program = program_of(chain(), {6})
    awaited = next(c for c in program.compute if isinstance(c, Launch) and c.layer == 2)
    disk = tuple(
        one if one.once else replace(one, after=(*one.after, awaited.id)) for one in program.disk
    )
    later = LaterRuns.of(replace(program, disk=disk), buffers(program))
    assert shape_of(later)[1:5] == [[0, 1], (Launch, 2), [3, 4, 5], (Launch, 6)]


@given(
    st.sets(st.integers(0, LAYERS - 1)),
    st.sets(st.integers(0, LAYERS - 1)),
    st.sets(st.integers(0, LAYERS)),
    st.sampled_from([-1, 0, 3, LAYERS - 1]),
    st.sampled_from([Transport.COPY, Transport.MAP]),
)
def test_nothing_is_lost_and_stretches_touch_what_stays(
    streamed: set[int], in_place: set[int], lasting: set[int], host: int, transport: Transport
) -> None:
    program = program_of(chain(host=host), streamed - {host}, transport)
    places, fixed = {f"b{i}" for i in lasting}, {f"w{i}" for i in in_place & streamed}
    later = LaterRuns.of(program, places, fixed)
    flat = [
        command
        for step in later.steps
        for command in (step.launches if isinstance(step, Stretch) else [step])
    ]
    assert flat == [c for c in program.compute if not getattr(c, "once", False)]
    pinned = {one.object for one in program.memory if isinstance(one, Alloc) and one.once}
    assert [c for c in program.memory if c.object not in pinned | places] == list(later.memory)
    ends = {at for one in later.memory if not isinstance(one, Alloc) for at in one.after}
    weight_of = {one.id: one.weight for one in program.transfer}
    for stretch in later.stretches:
        assert len(stretch.launches) > 1
        for at, launch in enumerate(stretch.launches):
            used = {arg.value for arg in launch.args if arg.kind == "object"}
            assert used <= pinned | places | fixed
            assert later.done >= set(launch.after) - (set(stretch.after) if at == 0 else set())
            assert (launch.id in ends) == (at in stretch.ending)
        assert stretch.lasting or used_by(stretch) & fixed
        assert {weight_of[one] for one in stretch.after} <= fixed
    # As long as can be: a stretch that follows another one waits for a weight.
    for before, behind in zip(later.steps, later.steps[1:], strict=False):
        if isinstance(before, Stretch) and isinstance(behind, Stretch):
            assert behind.after


def used_by(stretch: Stretch) -> set[object]:
    return {arg.value for launch in stretch.launches for arg in launch.args if arg.kind == "object"}
