"""Programs: no valid plan blocks, what is held peaks as planned, and the checker sees damage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import ModelError, PlanError
from flashmem_lab.lower.layer import (
    Arg,
    HostCall,
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Port,
    Precision,
    Recipe,
    RowFetch,
    Storage,
    View,
    Weight,
)
from flashmem_lab.plan.plan import (
    Objective,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.program import Packed, build_program, check_program
from flashmem_lab.program.program import (
    Alloc,
    Free,
    HostStep,
    KernelSource,
    Launch,
    PackedSpan,
    Program,
    ReadOutput,
    WriteInput,
)

FLOATS = 64  # elements of every activation buffer


def renderer(call: KernelCall) -> KernelSource:
    return KernelSource("k", f"// {call.template} {call.params}")


def view(ref: str, size: int = FLOATS) -> View:
    return View(ref, "float32", 0, (size,), (1,))


def layer(
    index: int, reads: list[str], writes: list[str], weights: list[str], **more: Any
) -> Layer:
    args = tuple(Arg("object", name) for name in (*weights, *reads, *writes))
    call = KernelCall("map.cl", (("kind", index % 2),), args, (8,), (4,))
    return Layer(
        index=index,
        name=f"layer{index}",
        kind="map",
        op_class=OperatorClass.ELEMENTAL,
        work=more.get("work", call),
        reads=tuple(reads),
        writes=tuple(writes),
        weights=tuple(weights),
        flops=0,
        bytes_read=0,
        bytes_written=0,
        nodes=(),
    )


def weight(name: str, rows: int) -> Weight:
    return Weight(name, Storage.IMAGE2D, "float32", 4096, rows, Recipe(None, "", ()))


def model_of(layers: list[Layer], weights: list[Weight], **more: Any) -> LoweredModel:
    names = {name for item in layers for name in (*item.reads, *item.writes)}
    return LoweredModel(
        name="m",
        fingerprint="f",
        precision=Precision.FP32,
        layers=tuple(layers),
        buffers=dict.fromkeys(sorted(names), FLOATS * 4),
        weights={item.name: item for item in weights},
        constants={},
        inputs=more.get("inputs", (Port("x", "float32", (FLOATS,), view("b0")),)),
        outputs=more.get(
            "outputs", (Port("y", "float32", (FLOATS,), view(layers[-1].writes[-1])),)
        ),
    )


def packed_of(model: LoweredModel) -> Packed:
    """Spans as packing makes them, with no bytes behind."""
    spans: dict[str, PackedSpan] = {}
    offset = 4096
    for item in model.weights.values():
        blocks = item.blocks()
        spans[item.name] = PackedSpan(
            offset, item.packed_bytes, item.row_bytes, blocks[0][1], tuple(range(len(blocks)))
        )
        offset += -(-item.packed_bytes // 4096) * 4096
    return Packed(Path("packed.fmw"), "key", spans)


def plan_of(
    model: LoweredModel,
    load_at: dict[str, int],
    transport: Transport = Transport.COPY,
    *,
    slots: int = 2,
    barrier: bool = False,
    chunk_bytes: int = 1 << 19,
) -> Plan:
    """A plan that streams the weights in `load_at` and preloads the others."""
    uses = model.weight_uses()
    streamed = sorted(load_at, key=lambda name: uses[name][0])
    preloaded = sorted(uses.keys() - load_at.keys(), key=lambda name: (uses[name][0], name))
    chunks = [
        rows * w.row_bytes
        for n, w in model.weights.items()
        if n in uses
        for _, rows in w.chunks(chunk_bytes)
    ]
    copy = transport is Transport.COPY
    plan = Plan(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device="sim:test",
        strategy=Strategy.GREEDY,
        optimize=Objective.COLD,
        budget_bytes=0,
        min_budget_bytes=0,
        preload_peak_bytes=0,
        transport=transport,
        staging_bytes=slots * max(chunks, default=0) if copy else 0,
        chunk_bytes=chunk_bytes,
        preloaded=tuple(preloaded),
        barrier=barrier,
        streamed=tuple(StreamedWeight(n, load_at[n], *uses[n], ()) for n in streamed),
        status=Status.GREEDY,
        tier="",
        objective=0.0,
        bound=0.0,
        gap=0.0,
        solve_ms=0.0,
        first_plan_ms=0.0,
        predicted=Prediction(0, 0, 0.0, 0.0),
    )
    return replace(plan, budget_bytes=residency_peak(plan, model))


def residency_peak(plan: Plan, model: LoweredModel) -> int:
    """What the brief's words say is held, step by step; nothing of the builder."""
    held = [plan.staging_bytes] * len(model.layers)
    spans = [(model.weights[n].device_bytes, 0, len(held) - 1) for n in plan.preloaded]
    spans += [(model.weights[s.weight].device_bytes, s.load_at, s.last_use) for s in plan.streamed]
    spans += [(model.buffers[n], *ends) for n, ends in model.lifetimes().items()]
    for size, first, last in spans:
        for step in range(first, last + 1):
            held[step] += size
    return max(held)


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
    """Three layers: the weight of the middle one in chunks, the last one's used twice."""
    layers = [
        layer(0, ["b0"], ["b1"], ["w2"]),
        layer(1, ["b1"], ["b2"], ["w1"]),
        layer(2, ["b1", "b2"], ["b3"], ["w2"]),
    ]
    return model_of(layers, [weight("w2", 3), weight("w1", 20)])


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


# --- the checker ---------------------------------------------------------------------------


def without(lane: str, at: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        del commands[at]
        return replace(program, **{lane: tuple(commands)})

    return damage


def changed(lane: str, at: int, **fields: Any) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        commands[at] = replace(commands[at], **fields)
        return replace(program, **{lane: tuple(commands)})

    return damage


def swapped(lane: str, first: int, second: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        commands[first], commands[second] = commands[second], commands[first]
        return replace(program, **{lane: tuple(commands)})

    return damage


def with_object(name: str, /, **fields: Any) -> Callable[[Program], Program]:
    return lambda p: replace(p, objects={**p.objects, name: replace(p.objects[name], **fields)})


def with_span(name: str, /, **fields: Any) -> Callable[[Program], Program]:
    return lambda p: replace(p, spans={**p.spans, name: replace(p.spans[name], **fields)})


@pytest.mark.parametrize(
    "damage",
    [
        *(without("memory", at) for at in range(11)),
        *(without("disk", at) for at in range(4)),
        *(without("transfer", at) for at in range(4)),
        without("compute", 0),
        without("compute", 4),
        *(changed("compute", at, after=()) for at in range(3)),
        changed("compute", 1, after=(99_999,)),
        changed("compute", 1, kernel=7),
        changed("compute", 1, kernel=-1),
        changed("compute", 1, layer=-1),
        changed("compute", 1, layer=3),
        changed("compute", 3, layer=0),
        changed("compute", 1, global_size=()),
        changed("compute", 1, global_size=(7,)),
        changed("compute", 1, global_size=(0,)),
        changed("compute", 1, local_size=(4, 1)),
        changed("compute", 1, args=(Arg("object", "b9"),)),
        changed("compute", 1, args=(Arg("object", "b3"),)),
        changed("compute", 1, args=(Arg("int", "b1"),)),
        changed("compute", 1, args=(Arg("pointer", 1),)),
        changed("compute", 0, view=view("b0", FLOATS + 1)),
        changed("compute", 0, name="z"),
        changed("compute", 4, view=view("b2")),
        swapped("compute", 0, 1),
        swapped("compute", 1, 2),
        swapped("memory", 3, 4),
        swapped("memory", 4, 5),
        swapped("memory", 0, 2),
        swapped("disk", 1, 2),
        swapped("transfer", 1, 2),
        changed("memory", 0, once=False),
        changed("memory", 1, once=True),
        changed("memory", 4, after=()),
        changed("memory", 6, after=()),
        changed("memory", 0, object="w9"),
        changed("memory", 0, id=1),
        changed("disk", 1, after=()),
        changed("disk", 1, once=True),
        changed("disk", 1, first_row=4),
        changed("disk", 1, rows=4),
        changed("disk", 1, rows=9, bytes=9 * 4096 * 16),
        changed("disk", 1, weight="b1"),
        changed("disk", 1, weight="w9"),
        changed("transfer", 1, after=()),
        changed("transfer", 1, rows=4),
        with_object("w1", bytes=1),
        with_object("w1", width=0),
        with_object("w1", dtype="int64"),
        with_object("b1", bytes=0),
        with_object("b1", bytes=FLOATS * 4 * 2),
        with_object("b3", bytes=FLOATS * 2),
        with_object("b1", name="b2"),
        with_span("w1", offset=-4096),
        with_span("w1", bytes=4096),
        with_span("w1", row_bytes=0),
        with_span("w1", block_rows=0),
        with_span("w1", checksums=()),
        with_span("w1", checksums=(-1,) * 5),
        lambda p: replace(p, predicted_peak_bytes=p.predicted_peak_bytes - 1),
        lambda p: replace(p, budget_bytes=p.budget_bytes - 1),
        lambda p: replace(p, staging_bytes=p.slot_bytes - 1),
        lambda p: replace(p, staging_bytes=-1),
        lambda p: replace(p, slot_bytes=4096),
        lambda p: replace(p, transport=Transport.MAP),
        lambda p: replace(p, transport=Transport.INLINE),
        lambda p: replace(p, layers=p.layers[:2]),
        lambda p: replace(p, inputs=()),
        lambda p: replace(p, outputs=()),
        lambda p: replace(p, outputs=p.outputs * 2),
        lambda p: replace(p, spans={}),
        lambda p: replace(p, objects={}),
    ],
)
def test_the_checker_sees_damage(program: Program, damage: Callable[[Program], Program]) -> None:
    check_program(program)
    with pytest.raises(PlanError, match="the program is not sound"):
        check_program(damage(program))


def test_lanes_that_wait_for_each_other_are_seen(model: LoweredModel) -> None:
    """The read of a weight made at step 1 is put before the one that layer 0 needs."""
    plan = plan_of(model, {"w1": 1, "w2": 0}, slots=1)
    program = build_program(plan, model, packed_of(model), renderer=renderer)
    turned = replace(
        program,
        disk=(*program.disk[1:], program.disk[0]),
        transfer=(*program.transfer[1:], program.transfer[0]),
    )
    # Object w1 of step 1 waits for no free here, so only an explicit wait closes the circle.
    memory = list(turned.memory)
    first_free = next(at for at, c in enumerate(memory) if isinstance(c, Free))
    made = next(at for at, c in enumerate(memory) if c.object == "w1" and isinstance(c, Alloc))
    assert made > first_free
    with pytest.raises(PlanError, match="wait for each other"):
        check_program(turned)


def test_a_view_of_negative_strides_is_held_to_its_bounds() -> None:
    backwards = View("b0", "float32", FLOATS - 1, (FLOATS,), (-1,))
    call = HostCall(b"onnx", (("a", backwards),), (("b", view("b1")),))
    model = model_of([layer(0, ["b0"], ["b1"], [], work=call)], [])
    build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)
    beyond = replace(call, inputs=(("a", replace(backwards, offset=FLOATS - 2)),))
    model = model_of([layer(0, ["b0"], ["b1"], [], work=beyond)], [])
    with pytest.raises(PlanError, match="reaches beyond 'b0'"):
        build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)


def test_thousands_of_commands_are_checked_quickly() -> None:
    count = 3000
    layers = [layer(at, [f"b{at}"], [f"b{at + 1}"], [f"w{at}"]) for at in range(count)]
    model = model_of(layers, [weight(f"w{at}", 1) for at in range(count)])
    rng = np.random.default_rng(0)
    load_at = {f"w{at}": int(rng.integers(0, at + 1)) for at in range(count)}
    program = build_program(plan_of(model, load_at), model, packed_of(model), renderer=renderer)
    assert program.predicted_peak_bytes == residency_peak(plan_of(model, load_at), model)
