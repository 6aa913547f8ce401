"""Weights that kernels move: capacity, plans, rewritten sources, and what the checks refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import DeviceSpec, Quantity, Transport
from flashmem_lab.device.spec import carrying_ns
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import LoweredModel, OperatorClass
from flashmem_lab.plan import (
    Constraints,
    Move,
    Objective,
    Plan,
    Strategy,
    check_plan,
    make_plan,
    plan_from_json,
    plan_to_json,
)
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.plan.simulate import simulate
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program import build_program, check_program, pack_weights
from flashmem_lab.program.carry import MOVER, Entry, carrying
from flashmem_lab.program.program import KernelSource, Launch, Program, Upload
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, devices, layers_model, models, shares
from tests.unit.test_simulated import chain

INLINE = replace(PHONE, transport=Transport.INLINE)

# --- time ----------------------------------------------------------------------------------


def test_moves_beside_work_cost_what_the_class_allows() -> None:
    """By hand: 1,000 ns at 1 byte a ns hide 1,200 bytes for 200 ns, and not one more."""
    assert carrying_ns(1000, 0.2, 1e9, 0) == 1000
    assert carrying_ns(1000, 0.2, 1e9, 600) == pytest.approx(1100)
    assert carrying_ns(1000, 0.2, 1e9, 1200) == pytest.approx(1200)
    assert carrying_ns(1000, 0.2, 1e9, 1500) == pytest.approx(1500)
    assert carrying_ns(1000, 3.0, 1e9, 4000) == pytest.approx(4000)
    assert carrying_ns(1000, 0.0, 1e9, 100) == pytest.approx(1100)  # hides nothing


def one_after_another() -> tuple[LoweredModel, DeviceSpec]:
    """Layers of 10 ms and a softmax of 1 ms; w1 comes 1 ms into the first, w2 needs the third."""
    device = replace(
        INLINE,
        disk=Quantity(1e9, "drawn"),
        upload=Quantity(1e9, "drawn"),
        launch_ns=Quantity(0.0, "drawn"),
        contention=Quantity(0.0, "drawn"),
        compute={name: Quantity(1e9, "drawn") for name in PHONE.compute},
    )
    reusable, hierarchical = OperatorClass.REUSABLE, OperatorClass.HIERARCHICAL
    specs = [
        (reusable, 10**7, 4, (0,)),
        (hierarchical, 10**6, 4, ()),
        (reusable, 10**7, 4, ()),
        (reusable, 10**7, 4, (1,)),
    ]
    return layers_model(specs, [256, 512]), device  # rows of 1 KiB: a chunk of 1 MiB at most


def test_a_run_by_hand() -> None:
    model, device = one_after_another()
    plan = make_plan(model, device, budget=Budget(share=1.0), transport=Transport.INLINE)
    events = [e for e in simulate(plan, model, device, runs=1).events if e.lane is Lane.COMPUTE]
    small, large = 256 * 1024, 512 * 1024
    read = small / 1e3  # us at 1 GB/s
    move = small / 1e3
    hidden = large / 1e3 / 6  # a sixth of the time that moving takes alone
    starts = [0, read, read + move, read + move + 10_000, read + move + 11_000]
    starts.append(starts[-1] + 10_000 + hidden)
    kinds = ["stall", "upload", "launch", "launch", "launch", "launch"]
    assert [event.kind for event in events] == kinds
    assert [event.start_ns / 1e3 for event in events] == pytest.approx(starts, abs=0.01)
    assert [event.bytes for event in events] == [0, small, 0, 0, large, 0]


# --- plans ---------------------------------------------------------------------------------

inline_devices = devices.map(lambda device: replace(device, transport=Transport.INLINE))


@given(models(), inline_devices, shares, st.sampled_from(Strategy), st.sampled_from(Objective))
def test_every_plan_passes_the_check_and_its_timeline_says_what_it_predicts(
    model: LoweredModel, device: DeviceSpec, share: float, strategy: Strategy, optimize: Objective
) -> None:
    budget = Budget(share=1.0 if strategy is Strategy.PRELOAD else share)
    plan = make_plan(model, device, budget=budget, strategy=strategy, optimize=optimize)
    check_plan(plan, model, device)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    assert plan.predicted.warm_ms <= plan.predicted.cold_ms * (1 + 1e-9)
    timeline = simulate(plan, model, device, runs=2)
    for run, expected in ((0, plan.predicted.cold_ms), (1, plan.predicted.warm_ms)):
        ends = [event.end_ns for event in timeline.events if event.run == run]
        assert max(ends) / 1e6 == pytest.approx(expected, abs=1e-5)
    for lane, run in product(Lane, range(2)):
        mine = [e for e in timeline.events if (e.lane, e.run) == (lane, run)]
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(mine))
    sizes = {name: model.weights[name].device_bytes for name in model.weight_uses()}
    moved = [
        sum(e.bytes for e in timeline.events if e.lane is Lane.COMPUTE and e.run == run)
        for run in range(2)
    ]
    assert moved == [sum(sizes.values()), sum(sizes[one.weight] for one in plan.streamed)]


@given(models(), inline_devices, shares)
def test_kernels_of_good_plans_stay_within_their_capacity(
    model: LoweredModel, device: DeviceSpec, share: float
) -> None:
    plan = make_plan(model, device, budget=Budget(share=share))
    run = [e for e in simulate(plan, model, device, runs=1).events if e.kind == "launch"]
    for event in run:
        layer = model.layers[event.layer]
        own_ns = device.layer_ns(
            layer.op_class.value, layer.kind, layer.flops, layer.bytes_read + layer.bytes_written
        )
        slack = device.slack[layer.op_class.value].value
        assert event.bytes <= own_ns * (1 + slack) * device.upload.value / 1e9 * (slack > 0)


SIX = layers_model(
    [
        (OperatorClass.REUSABLE, 10**9, 4, (0,)),
        (OperatorClass.HIERARCHICAL, 10**6, 4, ()),
        *((OperatorClass.REUSABLE, 10**9, 4, (at,)) for at in range(1, 6)),
    ],
    [4096] * 6,
)
"""Six weights of four chunks each."""


def six() -> Plan:
    asked = Constraints(preload=("w0",), stream=("w4", "w5"))
    return make_plan(SIX, INLINE, budget=Budget(share=0.6), constraints=asked)


def last_two(plan: Plan, first: Move, second: Move) -> Plan:
    """The plan with other moves of w4 and w5, which layers 5 and 6 use."""
    *others, w4, w5 = plan.streamed
    w4 = replace(w4, load_at=0, moves=(first,))
    return replace(plan, streamed=(*others, w4, replace(w5, load_at=0, moves=(second,))))


@pytest.mark.parametrize(
    ("message", "damage"),
    [
        ("does not state the moves", lambda p: replace(p, preload_moves=())),
        ("too late", lambda p: replace(p, preload_moves=((Move(9, 4, 4),), *p.preload_moves[1:]))),
        (
            "3 chunks of 'w0' move; it has 4",
            lambda p: replace(p, preload_moves=((Move(0, 3, 3),), *p.preload_moves[1:])),
        ),
        ("is to carry 8 chunks", lambda p: last_two(p, Move(4, 4), Move(4, 4))),
        ("before one that is read earlier", lambda p: last_two(p, Move(5, 4, 4), Move(4, 4))),
        ("before one that is read earlier", lambda p: last_two(p, Move(4, 4), Move(4, 4, 4))),
        ("cannot carry 4 chunks", lambda p: last_two(p, Move(5, 4), Move(6, 4, 4))),
        ("cannot carry -1 chunks", lambda p: last_two(p, Move(4, 4, 5), Move(6, 4, 4))),
    ],
)
def test_plans_that_no_ring_could_carry_are_refused(
    message: str, damage: Callable[[Plan], Plan]
) -> None:
    plan = six()
    check_plan(plan, SIX, INLINE)
    with pytest.raises(PlanError, match=message):
        check_plan(damage(plan), SIX, INLINE)


# --- programs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Layers so slow that all weights are read while the first one runs."""
    model = chain()
    slow = tuple(replace(layer, flops=layer.flops * 1000) for layer in model.layers)
    model = replace(model, layers=slow)
    plan = make_plan(model, INLINE, budget=Budget(share=1.0))
    check_plan(plan, model, INLINE)
    source = KernelSource("add", "__kernel void add() {}")
    packed = pack_weights(model, tmp_path_factory.mktemp("packed"))
    return build_program(plan, model, packed, renderer=lambda call: source)


def carriers(program: Program) -> list[int]:
    """Places in the compute lane of the commands that carry something."""
    return [at for at, one in enumerate(program.compute) if getattr(one, "carries", ())]


def with_compute(program: Program, at: int, **fields: Any) -> Program:
    commands = list(program.compute)
    commands[at] = replace(commands[at], **fields)
    return replace(program, compute=tuple(commands))


def test_every_chunk_is_carried_by_a_kernel_made_for_it(program: Program) -> None:
    carried = [program.compute[at] for at in carriers(program)]
    assert {type(one).__name__ for one in carried} == {"Launch", "Move"}
    assert sum(len(one.carries) for one in carried) == len(program.transfer)
    for one in carried:
        source = program.kernels[one.kernel].source
        assert source.count("__write_only image2d_t") == CARRIED


def _last_launch(program: Program) -> int:
    return max(at for at in carriers(program) if isinstance(program.compute[at], Launch))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: with_compute(p, carriers(p)[0], carries=()),
        lambda p: with_compute(p, carriers(p)[0], after=()),
        lambda p: with_compute(p, carriers(p)[0], carries=(10**6,)),
        lambda p: with_compute(p, carriers(p)[0], once=not p.compute[carriers(p)[0]].once),
        lambda p: with_compute(p, carriers(p)[1], carries=p.compute[carriers(p)[0]].carries),
        lambda p: with_compute(
            p, _last_launch(p), carries=tuple(one.id for one in p.transfer[: CARRIED + 1])
        ),
        lambda p: replace(p, transport=Transport.COPY),
        lambda p: replace(p, staging_bytes=0, slot_bytes=0),
        lambda p: replace(
            p,
            staging_bytes=p.slot_bytes,
            budget_bytes=p.budget_bytes,
            predicted_peak_bytes=p.predicted_peak_bytes - p.staging_bytes + p.slot_bytes,
        ),
    ],
)
def test_the_checker_sees_carries_that_cannot_be(
    program: Program, damage: Callable[[Program], Program]
) -> None:
    check_program(program)
    with pytest.raises(PlanError, match="the program is not sound"):
        check_program(damage(program))


# --- sources -------------------------------------------------------------------------------


def upload(weight: str) -> Upload:
    return Upload(0, weight, 0, 0, 1, 64, False, ())


def test_a_rewritten_kernel_keeps_what_it_was() -> None:
    """Its own arguments come first, its body last; only the moves are between."""
    kernel = KernelSource(
        "add",
        "#define N 4\n__kernel void add(\n    __global float* x, const int n) {\n  x[n] = 1;\n}\n",
    )
    found = carrying(
        kernel, [Entry(upload("a"), "half texels", 0, 8), Entry(upload("b"), "words", 0, 16)]
    )
    assert found.entry == "add"
    assert found.source.startswith(
        "#define N 4\n__kernel void add(\n    __global float* x, const int n,"
    )
    assert found.source.endswith("  x[n] = 1;\n}\n")
    assert found.source.count("for (int i = carry_item;") == CARRIED
    assert found.source.count("write_imagef(") == 1
    assert found.source.count("vload_half4(") == 1
    assert "if" not in found.source.replace("write_imagef", "")


def test_the_mover_is_an_empty_kernel_rewritten() -> None:
    source = carrying(MOVER, [Entry(upload("a"), "bytes", 0, 8)]).source
    assert "__kernel void move(\n    __global const uchar* carry_from0" in source
    assert source.count("carry_to0[at] = carry_from0[i];") == 1
