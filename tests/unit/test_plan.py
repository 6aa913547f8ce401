"""Planners: every plan holds, the least budget is least, and more budget is never worse."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise, product
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import DeviceSpec, HostTimes, Quantity, Transport
from flashmem_lab.errors import BudgetTooSmall, UsageError
from flashmem_lab.lower.layer import (
    LoweredModel,
    OperatorClass,
    Recipe,
    Storage,
    Weight,
)
from flashmem_lab.plan import (
    Constraints,
    Contention,
    Objective,
    Plan,
    Status,
    Strategy,
    Task,
    bounds,
    check_plan,
    clock,
    make_plan,
    plan_from_json,
    plan_to_json,
    run_lanes,
)
from flashmem_lab.plan.chunks import chunk_layout
from flashmem_lab.plan.clock import ns_at_least, run_ns
from flashmem_lab.plan.constraints import NO_CONSTRAINTS
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.problem import build_problem
from flashmem_lab.plan.simulate import simulate, steps_of
from flashmem_lab.plan.timeline import Lane, Pool
from flashmem_lab.plan.told import later_loads, told
from flashmem_lab.units import Budget
from tests.unit.plan_samples import (
    PHONE,
    SAMPLE,
    devices,
    layers_model,
    models,
    shares,
    with_hosts,
)


def held_at(plan: Plan, model: LoweredModel) -> list[int]:
    """Residency of each step, the slow way, from the definition."""
    lifetimes, uses = model.lifetimes(), model.weight_uses()
    streamed = {weight.weight: weight for weight in plan.streamed}
    held = []
    for step in range(len(model.layers)):
        total = plan.staging_bytes
        for name, (first, last) in lifetimes.items():
            total += model.buffers[name] if first <= step <= last else 0
        for name in uses:
            begin = streamed[name].load_at if name in streamed else 0
            end = streamed[name].last_use if name in streamed else len(model.layers)
            total += model.weights[name].device_bytes if begin <= step <= end else 0
        held.append(total)
    return held


# --- every plan ----------------------------------------------------------------------------


@given(models(), devices, shares, st.sampled_from(Strategy), st.sampled_from(Objective), st.data())
def test_every_plan_passes_the_check_and_predicts_its_peak(
    model: LoweredModel,
    device: DeviceSpec,
    share: float,
    strategy: Strategy,
    optimize: Objective,
    data: st.DataObject,
) -> None:
    forced = data.draw(st.sets(st.sampled_from(sorted(model.weight_uses())), max_size=3))
    budget = Budget(share=1.0 if strategy is Strategy.PRELOAD else share)
    plan = make_plan(
        model,
        device,
        budget=budget,
        strategy=strategy,
        optimize=optimize,
        constraints=Constraints(preload=tuple(sorted(forced))),
    )
    check_plan(plan, model, device)
    assert plan.predicted.peak_bytes == max(held_at(plan, model)) <= plan.budget_bytes
    assert plan.min_budget_bytes <= plan.budget_bytes <= plan.preload_peak_bytes
    assert plan.bound <= plan.objective * (1 + 1e-9)
    assert 0 <= plan.gap <= 1
    assert plan.predicted.warm_ms <= plan.predicted.cold_ms * (1 + 1e-9)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


@given(models(), devices, st.sampled_from(Objective))
def test_the_least_budget_is_least(
    model: LoweredModel, device: DeviceSpec, optimize: Objective
) -> None:
    least, _, layer = bounds(model, device)
    plan = make_plan(model, device, budget=Budget(bytes=least), optimize=optimize)
    check_plan(plan, model, device)
    with pytest.raises(BudgetTooSmall) as caught:
        make_plan(model, device, budget=Budget(bytes=least - 1), optimize=optimize)
    assert (caught.value.needed, caught.value.layer) == (least, layer)
    # No other choice of W and of load steps holds less (all of them, on small models).
    uses = model.weight_uses()
    if len(uses) <= 4 and len(model.layers) <= 4:
        sizes = {name: model.weights[name].device_bytes for name in uses}
        lives = [[-1, *range(first + 1)] for first, _ in uses.values()]
        lightest = min(
            max(
                base
                + sum(
                    sizes[n]
                    for (n, u), z in zip(uses.items(), chosen, strict=True)
                    if z < 0 or z <= step <= u[1]
                )
                for step, base in enumerate(activations(model))
            )
            for chosen in product(*lives)
        )
        assert least == plan.staging_bytes + lightest


def activations(model: LoweredModel) -> list[int]:
    lifetimes = model.lifetimes()
    return [
        sum(model.buffers[name] for name, (a, b) in lifetimes.items() if a <= step <= b)
        for step in range(len(model.layers))
    ]


@given(models(), devices, st.lists(shares, min_size=2, max_size=6))
def test_a_larger_budget_is_never_slower(
    model: LoweredModel, device: DeviceSpec, few: list[float]
) -> None:
    budgets = [Budget(share=share) for share in sorted(few)]
    for optimize, attribute in (("cold", "cold_ms"), ("warm", "warm_ms"), ("memory", "cold_ms")):
        times = [
            getattr(
                make_plan(model, device, budget=b, optimize=Objective(optimize)).predicted,
                attribute,
            )
            for b in budgets
        ]
        assert all(b <= a * (1 + 1e-8) for a, b in pairwise(times)), optimize


@given(models(shared=False), devices, shares)
def test_each_objective_is_best_at_its_own(
    model: LoweredModel, device: DeviceSpec, share: float
) -> None:
    budget = Budget(share=share)
    plans = {o: make_plan(model, device, budget=budget, optimize=o) for o in Objective}
    naive = [
        make_plan(model, device, budget=budget, strategy=s)
        for s in (Strategy.ALWAYS_NEXT, Strategy.SAME_OP)
    ]
    cold = plans[Objective.COLD].predicted.cold_ms
    assert all(cold <= plan.predicted.cold_ms * (1 + 1e-9) for plan in (*naive, plans["memory"]))
    warm = plans[Objective.WARM].predicted.warm_ms
    assert all(warm <= plan.predicted.warm_ms * (1 + 1e-9) for plan in naive)
    assert not plans[Objective.MEMORY].preloaded


@given(models(), devices)
def test_full_preload_budget_pins_everything(model: LoweredModel, device: DeviceSpec) -> None:
    for optimize in (Objective.COLD, Objective.WARM):
        plan = make_plan(model, device, budget=Budget(share=1.0), optimize=optimize)
        assert not plan.streamed
        assert not plan.barrier
        assert plan.predicted.peak_bytes == plan.preload_peak_bytes
        barred = make_plan(model, device, budget=Budget(share=1.0), strategy=Strategy.PRELOAD)
        assert barred.barrier
        assert plan.predicted.cold_ms <= barred.predicted.cold_ms * (1 + 1e-9)


@given(st.integers(1, 4000), st.integers(1, 5000), st.integers(1, 4 << 20))
def test_chunk_layout_counts_the_chunks_of_the_weight(width: int, rows: int, chunk: int) -> None:
    weight = Weight("w", Storage.IMAGE2D, "float16", width, rows, Recipe(None, "", ()))
    count, size, last = chunk_layout(weight, chunk)
    sizes = [rows * weight.row_bytes for _, rows in weight.chunks(chunk)]
    assert sizes == [size] * (count - 1) + [last]


# --- what each strategy means --------------------------------------------------------------


def test_always_next_loads_one_layer_ahead() -> None:
    plan = make_plan(SAMPLE, PHONE, budget=Budget(share=1.0), strategy=Strategy.ALWAYS_NEXT)
    assert [(w.load_at, w.first_use) for w in plan.streamed] == [
        (0, 0),
        (1, 2),
        (1, 2),
        (3, 4),
        (4, 5),
    ]
    assert plan.status is Status.FEASIBLE


def test_same_op_loads_begin_at_layers_of_one_class() -> None:
    plan = make_plan(SAMPLE, PHONE, budget=Budget(share=1.0), strategy=Strategy.SAME_OP)
    starts = {w.load_at for w in plan.streamed if w.load_at < w.first_use}
    assert len({SAMPLE.layers[at].op_class for at in starts}) == 1


def test_baselines_fall_back_to_stalls_under_the_least_budget() -> None:
    plan = make_plan(SAMPLE, PHONE, budget=Budget(share=0.0), strategy=Strategy.ALWAYS_NEXT)
    assert plan.tier == "stall-loads"
    check_plan(plan, SAMPLE, PHONE)


def test_forced_weights_are_pinned_and_raise_the_least_budget() -> None:
    plan = make_plan(
        SAMPLE, PHONE, budget=Budget(share=0.0), constraints=Constraints(preload=("w1",))
    )
    assert "w1" in plan.preloaded
    assert plan.min_budget_bytes > bounds(SAMPLE, PHONE)[0]
    assert (
        plan.min_budget_bytes == bounds(SAMPLE, PHONE, constraints=Constraints(preload=("w1",)))[0]
    )


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing"):
        make_plan(
            SAMPLE, PHONE, budget=Budget(share=0.0), constraints=Constraints(preload=("nothing",))
        )
    with pytest.raises(BudgetTooSmall, match="too small") as caught:
        make_plan(SAMPLE, PHONE, budget=Budget(share=0.9), strategy=Strategy.PRELOAD)
    assert "full preload" in caught.value.hint


def test_a_model_without_weights_on_the_device_is_planned() -> None:
    model = layers_model([(OperatorClass.ELEMENTAL, 10, 400, ())] * 3, [])
    for strategy in Strategy:
        plan = make_plan(model, PHONE, budget=Budget(share=1.0), strategy=strategy)
        check_plan(plan, model, PHONE)
        assert plan.staging_bytes == 0


# --- the simulator -------------------------------------------------------------------------


@given(models(), devices, shares, st.sampled_from(Strategy))
def test_the_timeline_says_what_the_plan_predicts(
    model: LoweredModel, device: DeviceSpec, share: float, strategy: Strategy
) -> None:
    budget = Budget(share=1.0 if strategy is Strategy.PRELOAD else share)
    plan = make_plan(model, device, budget=budget, strategy=strategy)
    timeline = simulate(plan, model, device, runs=3)
    assert timeline == simulate(plan, model, device, runs=3)
    for run, expected in ((0, plan.predicted.cold_ms), (1, plan.predicted.warm_ms)):
        ends = [event.end_ns for event in timeline.events if event.run == run]
        assert max(ends) / 1e6 == pytest.approx(expected, abs=1e-5)
    peak, level = 0, dict.fromkeys(Pool, 0)
    for sample in timeline.samples:
        level[sample.pool] = sample.bytes
        peak = max(peak, sum(level.values()))
    assert peak == plan.predicted.peak_bytes
    read = dict.fromkeys(range(3), 0)
    for event in timeline.events:
        read[event.run] += event.bytes if event.kind == "read" else 0
    sizes = {name: model.weights[name].device_bytes for name in model.weight_uses()}
    assert read[0] == sum(sizes.values())
    assert read[1] == read[2] == sum(sizes[weight.weight] for weight in plan.streamed)
    for lane, run in product(Lane, range(3)):
        mine = [e for e in timeline.events if (e.lane, e.run) == (lane, run)]
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(mine))


@given(models(), st.one_of(devices, with_hosts), shares, st.sampled_from(Strategy))
def test_the_clock_agrees_with_the_lane_engine(
    model: LoweredModel, device: DeviceSpec, share: float, strategy: Strategy
) -> None:
    """The recurrence of the planner against tasks with dependencies, built from the plan alone."""
    budget = Budget(share=1.0 if strategy is Strategy.PRELOAD else share)
    plan = make_plan(model, device, budget=budget, strategy=strategy)
    uses, steps = model.weight_uses(), len(model.layers)
    streamed = {weight.weight: weight.load_at for weight in plan.streamed}
    alive = [
        sum(model.buffers[n] for n, (a, b) in model.lifetimes().items() if a <= at <= b)
        for at in range(steps)
    ]
    late = replace(plan, streamed=tuple(replace(w, load_at=w.first_use) for w in plan.streamed))
    beside = max(held - own for held, own in zip(held_at(late, model), alive, strict=True))
    crowded = max(alive) + beside > max(held_at(plan, model))
    for cold, expected in ((True, plan.predicted.cold_ms), (False, plan.predicted.warm_ms)):
        reading = device.reading(cold=cold, transport=plan.transport)
        moving = [n for n in uses if cold or n in streamed]
        place = {n: (n in streamed) for n in uses}
        order = sorted(
            moving,
            key=lambda n: (
                plan.barrier and place[n],
                uses[n][0],
                streamed.get(n, 0),
                place[n],
                int(n[1:]),
            ),
        )
        reads, uploads, arrived = [], [], {}
        ids = iter(range(steps, 10**9))
        slots = plan.staging_bytes // max(
            (
                rows * model.weights[n].row_bytes
                for n in uses
                for _, rows in model.weights[n].chunks(plan.chunk_bytes)
            ),
            default=1,
        )
        for name in order:
            gate = streamed.get(name, 0)
            besides_ns = reading.weight_ns.value if plan.transport is Transport.MAP else 0.0
            for _, rows in model.weights[name].chunks(plan.chunk_bytes):
                size = rows * model.weights[name].row_bytes
                after = (gate - 1,) if gate else ()
                if plan.transport is Transport.COPY and len(uploads) >= slots:
                    after += (uploads[-slots].id,)
                read_ns = size / reading.disk.value * 1e9 + besides_ns
                reads.append(Task(next(ids), read_ns, after))
                besides_ns = 0.0
                copying = size / device.upload.value * 1e9
                copying = copying if plan.transport is Transport.COPY else 0.0
                uploads.append(Task(next(ids), copying, (reads[-1].id,)))
                arrived[name] = uploads[-1].id
        layers = []
        ended = ready = 0.0
        for layer in model.layers:
            wanted = {n for n in layer.weights if n in arrived}
            if plan.barrier and layer.index == 0:
                wanted |= set(arrived)
            traffic = layer.bytes_read + layer.bytes_written
            time = device.layer_ns(layer.op_class.value, layer.kind, layer.flops, traffic)
            if cold and device.first_run:
                loads = any(uses[n][0] == layer.index for n in layer.weights)
                if layer.index:
                    ready += (device.first_launch_ns if loads else device.host.first_layer_ns).value
                begun = max(ended, ready)
                time, ended = begun + time - ended, begun + time
            time += device.host.crowded_ns.value * crowded
            if cold:
                rise = max(alive[: layer.index + 1]) - max(alive[: layer.index], default=0)
                time += device.host.first_touch_ns.value * rise
            time += device.host.streamed_ns.value * sum(uses[n][0] == layer.index for n in streamed)
            layers.append(Task(layer.index, time, tuple(arrived[n] for n in wanted)))
        slowed = Contention("disk", ("transfer", "compute"), reading.contention.value)
        lanes = {"disk": reads, "transfer": uploads, "compute": layers}
        start = device.host.first_start_ns if cold else device.host.start_ns
        end_ns = start.value + run_lanes(lanes, slowed)[steps - 1].end_ns
        assert end_ns / 1e6 == pytest.approx(expected, rel=1e-9)


@given(models(), devices, shares, st.sampled_from(Strategy))
def test_no_plan_takes_longer_than_its_lanes_one_after_another(
    model: LoweredModel, device: DeviceSpec, share: float, strategy: Strategy
) -> None:
    """Some lane works at any moment: why naive plans are at most about twice as slow."""
    budget = Budget(share=1.0 if strategy is Strategy.PRELOAD else share)
    plan = make_plan(model, device, budget=budget, strategy=strategy)
    problem = build_problem(model, device, device.transport).in_run(cold=True)
    moved, read = int(problem.size.sum()), float(problem.load.sum())
    lanes_ms = (problem.compute_ns + read / problem.disk * 1e9 + moved / problem.upload * 1e9) / 1e6
    assert plan.predicted.cold_ms <= lanes_ms * (1 + 1e-9)


@given(models(), devices, st.booleans(), st.data())
def test_the_clock_on_arrays_is_a_bound_and_exact_where_reads_land_in_place(
    model: LoweredModel, device: DeviceSpec, cold: bool, data: st.DataObject
) -> None:
    problem = build_problem(model, device, device.transport)
    count = len(problem.weights)
    pinned = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    load_at = np.array([data.draw(st.integers(0, first)) for first in problem.first.tolist()])
    exact = run_ns(problem, pinned, load_at, cold=cold)
    rounds = [ns_at_least(problem, pinned, load_at, cold=cold, rounds=some) for some in (1, 2, 4)]
    settled = ns_at_least(problem, pinned, load_at, cold=cold)
    assert problem.compute_ns <= rounds[0] <= rounds[1] <= rounds[2] <= settled
    assert settled <= exact * (1 + 1e-9)
    if device.transport is Transport.MAP:
        assert settled == pytest.approx(exact, rel=1e-9)


def without_host(device: DeviceSpec) -> DeviceSpec:
    """But for what every layer of a first run takes, which plans know."""
    return replace(device, host=HostTimes(first_layer_ns=device.host.first_layer_ns))


@given(models(), with_hosts, shares)
def test_what_the_host_takes_is_told(model: LoweredModel, device: DeviceSpec, share: float) -> None:
    """Start, and each streamed weight: that much at least, whatever else hides beside it."""
    host = device.host
    plan, plain = (
        make_plan(model, one, budget=Budget(share=share), optimize=Objective.MEMORY)
        for one in (device, without_host(device))
    )
    assert plan.preloaded == plain.preloaded
    assert (plan.objective, plan.bound) == (plain.objective, plain.bound)
    least_ms = min(host.start_ns.value, host.first_start_ns.value) / 1e6
    held_up_ms = len(plan.streamed) * host.streamed_ns.value / 1e6
    for with_it, without in (
        (plan.predicted.cold_ms, plain.predicted.cold_ms),
        (plan.predicted.warm_ms, plain.predicted.warm_ms),
    ):
        assert with_it >= (without + least_ms) * (1 - 1e-9)
    problem = build_problem(model, device, device.transport)
    compute_ms = problem.compute_ns / 1e6
    assert plan.predicted.warm_ms >= (compute_ms + held_up_ms) * (1 - 1e-9)


@given(models(), with_hosts, shares)
def test_the_host_decides_between_plans_for_later_runs(
    model: LoweredModel, device: DeviceSpec, share: float
) -> None:
    """What greedy takes is no slower, with all that the host does, than what it took without."""
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, NO_CONSTRAINTS)

    def later_ns(plan: Plan) -> float:
        pinned, planned = steps_of(plan, problem)
        load_at = later_loads(problem, free, pinned, planned)
        return run_ns(told(problem, pinned, planned, cold=False), pinned, load_at, cold=False)

    for optimize in (Objective.WARM, Objective.COLD):
        plan, plain = (
            make_plan(model, one, budget=Budget(share=share), optimize=optimize)
            for one in (device, without_host(device))
        )
        assert plan.bound == plain.bound
        if optimize is Objective.WARM:
            assert later_ns(plan) <= later_ns(plain) * (1 + 1e-9)
        else:
            assert plan.objective == pytest.approx(plain.objective, rel=1e-8)


def test_a_plan_for_later_runs_leaves_activations_their_room() -> None:
    """By hand: 384 KiB of activations at most fit beside either weight, but not beside both."""
    product = OperatorClass.REUSABLE
    model = layers_model(
        [
            (product, 10**9, 128 * 1024, ()),
            (product, 10**9, 256 * 1024, (0,)),
            (product, 10**9, 4 * 1024, (1,)),
        ],
        [512, 128],  # rows of 1 KiB
    )
    least, full, _ = bounds(model, PHONE, Transport.MAP)
    assert (least, full) == (896 * 1024, 1024 * 1024)

    def pinned(crowded_ns: float) -> tuple[str, ...]:
        host = HostTimes(crowded_ns=Quantity(crowded_ns, "by hand"))
        device = replace(PHONE, transport=Transport.MAP, host=host)
        budget = Budget(bytes=960 * 1024)
        return make_plan(model, device, budget=budget, optimize=Objective.WARM).preloaded

    assert pinned(0.0) == ("w0",)
    assert pinned(1e6) == ()


def test_a_lane_that_works_slows_the_others() -> None:
    """By hand: at half pace from 4 to 10, a layer from 2 to 14 has 2 + 3 + 4 of its 9 ns done."""
    lanes = {
        "disk": [Task(0, 6.0, (2,)), Task(1, 2.0, (3,))],
        "transfer": [Task(2, 4.0)],
        "compute": [Task(4, 2.0), Task(3, 9.0), Task(5, 3.0)],
    }
    spans = run_lanes(lanes, Contention("disk", ("compute",), 1.0))
    times = {at: (span.start_ns, span.end_ns) for at, span in spans.items()}
    assert times == {2: (0, 4), 0: (4, 10), 4: (0, 2), 3: (2, 14), 1: (14, 16), 5: (14, 18)}
    assert run_lanes(lanes)[5].end_ns == 14


@given(models(), devices, shares, st.sampled_from(Objective))
def test_contention_never_makes_a_plan_faster(
    model: LoweredModel, device: DeviceSpec, share: float, optimize: Objective
) -> None:
    """And never slower than the layers stretched all the time."""
    plan = make_plan(model, device, budget=Budget(share=share), optimize=optimize)
    problem = replace(build_problem(model, device, device.transport), first_run=None)
    alone = replace(problem, contention=0.0)
    pinned = problem.mask(plan.preloaded)
    load_at = np.where(pinned, 0, problem.first)
    for weight in plan.streamed:
        load_at[problem.index[weight.weight]] = weight.load_at
    slow = 1 + problem.contention
    stretched = replace(alone, duration_ns=problem.duration_ns * slow, upload=problem.upload / slow)
    for cold in (True, False):
        least, took, most = (
            run_ns(one, pinned, load_at, cold=cold) for one in (alone, problem, stretched)
        )
        assert least * (1 - 1e-9) <= took <= most * (1 + 1e-9)


def test_lanes_that_wait_for_one_another_are_reported() -> None:
    with pytest.raises(ValueError, match="wait for one another"):
        run_lanes({"a": [Task(0, 1.0, (1,))], "b": [Task(1, 1.0, (0,))]})
    assert run_lanes({"a": [Task(0, 1.0)], "b": [Task(1, 2.0, (0,))]})[1].end_ns == 3.0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("optimize", Objective)
def test_a_deep_model_is_planned_at_once(
    optimize: Objective, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few walks along its layers, however many there are; `bench planner` has the time."""
    walks = Mock(wraps=clock._move)
    monkeypatch.setattr(clock, "_move", walks)
    rng = np.random.default_rng(7)
    uses = np.sort(rng.choice(1500, 600, replace=False)).tolist()
    at = {layer: (number,) for number, layer in enumerate(uses)}
    kinds = list(OperatorClass)
    model = layers_model(
        [(kinds[n % 3], int(rng.integers(10**8)), 10**5, at.get(n, ())) for n in range(1500)],
        rng.integers(1, 500, 600).tolist(),
    )
    plan = make_plan(model, PHONE, budget=Budget(share=share), optimize=optimize)
    check_plan(plan, model, PHONE)
    assert 1 <= walks.call_count <= 8
