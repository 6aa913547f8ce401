"""Programs: no valid plan blocks, what is held peaks as planned, what does not fit is refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import ModelError, PlanError
from flashmem_lab.lower.layer import (
    HostCall,
    LoweredModel,
    Port,
    Recipe,
    RowFetch,
    Storage,
    View,
    Weight,
)
from flashmem_lab.plan.plan import (
    Plan,
    StreamedWeight,
)
from flashmem_lab.program import build_program, check_program
from flashmem_lab.program.program import (
    Alloc,
    Free,
    HostStep,
    Launch,
    Program,
    ReadOutput,
    WriteInput,
)
from tests.unit.program_samples import (
    FLOATS,
    layer,
    model_of,
    packed_of,
    plan_of,
    renderer,
    residency_peak,
    three_layers,
    view,
    weight,
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[LoweredModel, Plan]:
    """A random chain with skips, weights used once or more, and any valid plan for it."""
    count = draw(st.integers(1, 12))
    weights = [weight(f"w{at}", draw(st.integers(1, 30))) for at in range(draw(st.integers(0, 10)))]
    users: dict[int, list[str]] = {at: [] for at in range(count)}
    for item in weights:
        for at in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3)):
            users[at].append(item.name)
    layers = []
    for at in range(count):
        skips = draw(st.sets(st.integers(0, at), max_size=2)) | {at}
        layers.append(layer(at, [f"b{k}" for k in sorted(skips)], [f"b{at + 1}"], users[at]))
    model = model_of(layers, weights)
    uses = model.weight_uses()
    streamed = [name for name in sorted(uses) if draw(st.booleans())]
    load_at = {name: draw(st.integers(0, uses[name][0])) for name in streamed}
    transport = draw(st.sampled_from([Transport.COPY, Transport.MAP]))
    plan = plan_of(
        model,
        load_at,
        transport,
        slots=draw(st.integers(1, 4)),
        barrier=draw(st.booleans()),
        chunk_bytes=draw(st.sampled_from([1 << 18, 1 << 19, 1 << 20])),
    )
    return model, plan


def execute(program: Program, choose: Callable[[int], int], *, warm: bool = False) -> int:
    """Runs the lanes one command at a time, in any interleaving; returns the peak of bytes held.

    Fails if the lanes block, if a command uses what is not there, or if bytes stay behind.
    """
    skip = [
        c
        for c in (*program.memory, *program.disk, *program.transfer)
        if warm and getattr(c, "once", False)
    ]
    done = {command.id for command in skip}
    lanes = [
        deque(c for c in lane if c.id not in done)
        for lane in (program.memory, program.disk, program.transfer, program.compute)
    ]
    slots = program.staging_bytes // program.slot_bytes if program.slot_bytes else None
    kept = sum(program.objects[c.object].bytes for c in skip if isinstance(c, Alloc))
    held = peak = program.staging_bytes + kept
    alive = {c.object for c in skip if isinstance(c, Alloc)}
    rows = {c.weight: c.rows for c in skip if not isinstance(c, Alloc)}
    rows.update({n: program.objects[n].height for n in rows})
    in_ring = 0
    while any(lanes):
        ready = [lane for lane in lanes if lane and set(getattr(lane[0], "after", ())) <= done]
        if slots is not None and in_ring == slots:
            ready = [lane for lane in ready if lane is not lanes[1]]
        assert ready, "the lanes wait for each other"
        lane = ready[choose(len(ready))]
        command = lane.popleft()
        if isinstance(command, Alloc):
            assert command.object not in alive
            alive.add(command.object)
            held += program.objects[command.object].bytes
            rows.pop(command.object, None)
        elif isinstance(command, Free):
            alive.remove(command.object)
            held -= program.objects[command.object].bytes
        elif lane is lanes[1]:
            assert command.weight in alive
            in_ring += slots is not None
        elif lane is lanes[2]:
            in_ring -= slots is not None
            rows[command.weight] = rows.get(command.weight, 0) + command.rows
        elif isinstance(command, Launch):
            names = {str(arg.value) for arg in command.args if arg.kind == "object"}
            assert names <= alive
            for name in names & program.spans.keys():
                assert rows[name] == program.objects[name].height, "used before it is whole"
        else:
            assert command.view.ref in alive
        peak = max(peak, held)
        done.add(command.id)
    once = {c.object for c in program.memory if isinstance(c, Alloc) and c.once}
    assert alive == once
    return peak


@settings(max_examples=300)
@given(cases(), st.randoms(use_true_random=False))
def test_every_valid_plan_runs_to_its_end_and_peaks_as_planned(
    case: tuple[LoweredModel, Plan], random: Any
) -> None:
    model, plan = case
    program = build_program(plan, model, packed_of(model), renderer=renderer)
    wanted = residency_peak(plan, model)
    assert program.predicted_peak_bytes == wanted == plan.budget_bytes
    for choose in (lambda n: random.randrange(n), lambda n: 0, lambda n: n - 1):
        assert execute(program, choose) == wanted
        assert execute(program, choose, warm=True) <= wanted
    check_program(program)
    if program.barrier:
        first = next(c for c in program.compute if isinstance(c, Launch))
        before = {
            one for c in program.compute[: program.compute.index(first) + 1] for one in c.after
        }
        assert {c.id for c in program.transfer if c.once} <= before


@pytest.fixture
def model() -> LoweredModel:
    return three_layers()


@pytest.fixture
def program(model: LoweredModel) -> Program:
    return build_program(plan_of(model, {"w1": 0}), model, packed_of(model), renderer=renderer)


def test_the_lanes_of_a_small_program(program: Program) -> None:
    memory = [(type(c).__name__[0], c.object, c.step) for c in program.memory]
    assert memory == [
        ("A", "w2", 0), ("A", "w1", 0), ("A", "b0", 0), ("A", "b1", 0), ("F", "b0", 0),
        ("A", "b2", 1), ("F", "w1", 1), ("A", "b3", 2),
        ("F", "b1", 2), ("F", "b2", 2), ("F", "b3", 2),
    ]  # fmt: skip
    moved = [(c.weight, c.chunk, c.first_row, c.rows, c.once) for c in program.disk]
    assert moved == [("w2", 0, 0, 3, True), ("w1", 0, 0, 8, False), ("w1", 1, 8, 8, False),
                     ("w1", 2, 16, 4, False)]  # fmt: skip
    kinds = [type(c) for c in program.compute]
    assert kinds == [WriteInput, Launch, Launch, Launch, ReadOutput]
    assert [c.layer for c in program.compute] == [0, 0, 1, 2, 2]
    assert len(program.kernels) == 2  # layers 0 and 2 share their source
    assert program.slot_bytes == 8 * 4096 * 16
    frees = {c.object: c.after for c in program.memory if isinstance(c, Free)}
    assert frees["b3"] == (program.compute[-1].id,)
    assert frees["w1"] == (program.compute[2].id,)


def test_map_reads_in_chunks_and_unmaps_once(model: LoweredModel) -> None:
    plan = plan_of(model, {"w1": 1}, Transport.MAP)
    program = build_program(plan, model, packed_of(model), renderer=renderer)
    assert (program.staging_bytes, program.slot_bytes) == (0, 0)
    assert [c.weight for c in program.transfer] == ["w2", "w1"]
    assert program.transfer[1].after == tuple(c.id for c in program.disk if c.weight == "w1")
    assert program.transfer[1].rows == 20


def test_an_output_is_read_back_right_after_its_last_writer() -> None:
    layers = [layer(0, ["b0"], ["b1"], []), layer(1, ["b1"], ["b2"], [])]
    ports = tuple(Port(name, "float32", (FLOATS,), view(name)) for name in ("b1", "b2", "b0"))
    model = model_of(layers, [], outputs=ports)
    program = build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)
    order = [(type(c).__name__, c.name) for c in program.compute]
    assert order == [
        ("WriteInput", "x"), ("Launch", "layer0"), ("ReadOutput", "b1"), ("ReadOutput", "b0"),
        ("Launch", "layer1"), ("ReadOutput", "b2"),
    ]  # fmt: skip


def test_host_layers_and_tables(model: LoweredModel) -> None:
    table = Weight("table", Storage.HOST, "float32", 16, 100, Recipe(None, "", ()))
    fetch = RowFetch("table", "ids", View("b0", "float32", 0, (1, 4, 16), (0, 16, 1)))
    call = HostCall(b"onnx", (("a", view("b0")),), (("b", view("b1")),))
    layers = [
        layer(0, [], ["b0"], [], work=fetch),
        layer(1, ["b0"], ["b1"], [], work=call),
    ]
    inputs = (Port("ids", "int64", (4,), None),)
    model = model_of(layers, [table], inputs=inputs)
    program = build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)
    assert [type(c) for c in program.compute] == [HostStep, HostStep, ReadOutput]
    assert "table" in program.spans
    assert "table" not in program.objects
    assert program.slot_bytes == 0


# --- refusals of the builder ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "another model"),
        ({"precision": "fp16"}, "fp16 weights, not for fp32"),
        ({"transport": Transport.INLINE}, "does not say when"),
        ({"preloaded": ()}, "do not have the same weights.*w2"),
        ({"preloaded": ("w2", "w2")}, "named twice"),
        ({"preloaded": ("w2", "w9")}, "w9"),
        ({"staging_bytes": 1000}, "cannot hold a chunk"),
        ({"budget_bytes": 1_000_000}, "above its budget"),
        ({"streamed": (StreamedWeight("w1", 0, 2, 2, ()),)}, "other layers use 'w1'"),
        ({"streamed": (StreamedWeight("w1", 2, 1, 1, ()),)}, "after its first use"),
        ({"streamed": (StreamedWeight("w1", -1, 1, 1, ()),)}, "after its first use"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    model: LoweredModel, change: dict[str, Any], message: str
) -> None:
    plan = replace(plan_of(model, {"w1": 0}), **change)
    with pytest.raises(PlanError, match=message):
        build_program(plan, model, packed_of(model), renderer=renderer)


def test_packed_weights_of_another_model_are_refused(model: LoweredModel) -> None:
    packed = replace(packed_of(model), spans={})
    with pytest.raises(PlanError, match="packed weights are of another model"):
        build_program(plan_of(model, {}), model, packed, renderer=renderer)


def test_an_output_that_nothing_makes_is_refused(model: LoweredModel) -> None:
    lost = replace(model, outputs=(Port("y", "float32", (4,), view("nowhere", 4)),))
    with pytest.raises(ModelError, match="'y' of the model is not made"):
        build_program(plan_of(lost, {}), lost, packed_of(lost), renderer=renderer)
