"""lc-opg against exhaustive search on small models, and against the other strategies."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.linear_solver import pywraplp

from flashmem_lab.device import DeviceSpec
from flashmem_lab.errors import BudgetTooSmall, UsageError
from flashmem_lab.lower.layer import LoweredModel, OperatorClass
from flashmem_lab.plan import (
    Constraints,
    Effort,
    Objective,
    Plan,
    Prices,
    Status,
    Strategy,
    Window,
    check_plan,
    greedy,
    make_plan,
)
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.incumbent import Incumbent
from flashmem_lab.plan.lcopg import Chooser
from flashmem_lab.plan.pareto import pareto
from flashmem_lab.plan.problem import build_problem
from flashmem_lab.plan.room import least_budget, preload_peak
from flashmem_lab.plan.score import cost, quick_bound
from flashmem_lab.plan.search import preload_violators, search
from flashmem_lab.units import Budget
from tests.unit.plan_exhaustive import all_schedules
from tests.unit.plan_samples import PHONE, SAMPLE, devices, layers_model, models, shares

QUICK = Effort(time_s=5.0)
PRICE = Prices().lambda_


@settings(max_examples=60)
@given(models(4), devices, shares, st.sampled_from(Objective))
def test_bounds_hold_for_every_schedule_there_is(
    model: LoweredModel, device: DeviceSpec, share: float, optimize: Objective
) -> None:
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, Constraints())
    budget = Budget(share=share).resolve(
        least_budget(problem, free, free.forced)[0], preload_peak(problem)
    )
    costs = [cost(problem, s, optimize, PRICE) for s in all_schedules(problem, free, budget)]
    assert costs, "the least budget holds a schedule"
    assert quick_bound(problem, free, optimize, budget, PRICE) <= min(costs) * (1 + 1e-9)
    found = search(problem, free, budget, optimize, effort=QUICK)
    assert found.bound <= min(costs) * (1 + 1e-9)


@settings(max_examples=80)
@given(models(4), devices, shares, shares, st.booleans())
def test_the_program_of_a_slice_bounds_every_schedule_in_it(
    model: LoweredModel, device: DeviceSpec, share: float, kept: float, whole: bool
) -> None:
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, Constraints())
    budget = Budget(share=share).resolve(
        least_budget(problem, free, free.forced)[0], preload_peak(problem)
    )
    least = kept * float(problem.size.sum())
    schedules = all_schedules(problem, free, budget)
    costs = [
        cost(problem, one, Objective.WARM, PRICE)
        for one in schedules
        if problem.size[one.pinned].sum() >= least
    ]
    ceiling = 2 * max(cost(problem, one, Objective.WARM, PRICE) for one in schedules)
    solver = Chooser(
        problem, free, budget, Objective.WARM, price=PRICE, least=least, whole=whole,
        ceiling=ceiling,
    )  # fmt: skip
    assert solver.result().bound <= min(costs, default=ceiling) * (1 + 1e-9)


@settings(max_examples=60)
@given(models(4, shared=False), devices, shares, st.sampled_from(Objective))
def test_nothing_is_lost_by_deciding_only_what_to_pin(
    model: LoweredModel, device: DeviceSpec, share: float, optimize: Objective
) -> None:
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, Constraints())
    budget = Budget(share=share).resolve(
        least_budget(problem, free, free.forced)[0], preload_peak(problem)
    )
    schedules = all_schedules(problem, free, budget)
    least = min(cost(problem, schedule, optimize, PRICE) for schedule in schedules)
    found = search(problem, free, budget, optimize, effort=Effort(time_s=5.0, gap=0.0))
    # How many bytes are late is decided in steps of 2 %.
    rel = 1e-3 if optimize is Objective.MEMORY else 1e-9
    assert least * (1 - 1e-9) <= found.objective <= least * (1 + rel)


@st.composite
def demands(draw: st.DrawFn, model: LoweredModel) -> Constraints:
    """Constraints that do not contradict one another."""
    kinds: dict[str, list[str]] = {"preload": [], "stream": [], "window": []}
    for name in sorted(model.weight_uses()):
        kinds.setdefault(draw(st.sampled_from(["", *kinds])), []).append(name)
    windows = []
    for name in kinds["window"]:
        first = draw(st.integers(0, model.weight_uses()[name][0]))
        windows.append(Window(name, first, draw(st.integers(first, model.weight_uses()[name][0]))))
    return Constraints(tuple(kinds["preload"]), tuple(kinds["stream"]), tuple(windows))


@settings(max_examples=60)
@given(models(5), devices, shares, st.sampled_from(Strategy), st.sampled_from(Objective), st.data())
def test_every_strategy_keeps_to_the_constraints(
    model: LoweredModel,
    device: DeviceSpec,
    share: float,
    strategy: Strategy,
    optimize: Objective,
    data: st.DataObject,
) -> None:
    constraints = data.draw(demands(model))
    if strategy is Strategy.PRELOAD:
        share, constraints = 1.0, Constraints(preload=constraints.preload)
    plan = make_plan(
        model,
        device,
        budget=Budget(share=share),
        strategy=strategy,
        optimize=optimize,
        constraints=constraints,
        effort=QUICK,
    )
    check_plan(plan, model, device)
    assert plan.constraints == constraints
    assert plan.bound <= plan.objective * (1 + 1e-9)


@settings(max_examples=40)
@given(
    models(4),
    devices,
    st.sampled_from(Objective),
    st.sampled_from(sorted(set(Strategy) - {Strategy.PRELOAD})),
    st.data(),
)
def test_what_is_refused_as_too_small_has_no_schedule(
    model: LoweredModel,
    device: DeviceSpec,
    optimize: Objective,
    strategy: Strategy,
    data: st.DataObject,
) -> None:
    constraints = data.draw(demands(model))
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, constraints)
    least, _ = least_budget(problem, free, free.forced)
    assert not all_schedules(problem, free, least - 1)
    assert all_schedules(problem, free, least)
    with pytest.raises(BudgetTooSmall) as caught:
        make_plan(
            model,
            device,
            budget=Budget(bytes=least - 1),
            strategy=strategy,
            optimize=optimize,
            constraints=constraints,
        )
    assert caught.value.needed == least
    for _, enough in caught.value.relaxations:
        assert enough < least


@settings(max_examples=40)
@given(models(), devices, shares, st.sampled_from(Objective))
def test_lc_opg_is_never_worse_than_the_others(
    model: LoweredModel, device: DeviceSpec, share: float, optimize: Objective
) -> None:
    plans = {
        strategy: make_plan(
            model,
            device,
            budget=Budget(share=share),
            strategy=strategy,
            optimize=optimize,
            effort=Effort(time_s=0.3),
        )
        for strategy in set(Strategy) - {Strategy.PRELOAD}
    }
    best = plans.pop(Strategy.LC_OPG)
    assert all(best.objective <= plan.objective for plan in plans.values())
    assert best.gap <= max(plan.gap for plan in plans.values()) + 1e-9  # rounding of sums


@settings(max_examples=30)
@given(models(5), devices, st.lists(shares, min_size=2, max_size=4), st.sampled_from(Objective))
def test_a_larger_budget_never_gives_a_worse_objective(
    model: LoweredModel, device: DeviceSpec, few: list[float], optimize: Objective
) -> None:
    """With few weights every W is tried, so what fits the smaller budget is found again."""
    objectives = [
        make_plan(
            model,
            device,
            budget=Budget(share=share),
            strategy=Strategy.LC_OPG,
            optimize=optimize,
            effort=Effort(gap=0.0),
        ).objective
        for share in sorted(few)
    ]
    assert objectives == sorted(objectives, reverse=True) or np.allclose(
        objectives, sorted(objectives, reverse=True), rtol=1e-8
    )


@settings(max_examples=20)
@given(models(), devices, st.lists(shares, min_size=1, max_size=5), st.sampled_from(Strategy))
def test_a_curve_is_the_plans_of_its_budgets(
    model: LoweredModel, device: DeviceSpec, few: list[float], strategy: Strategy
) -> None:
    budgets = [Budget(share=1.0 if strategy is Strategy.PRELOAD else share) for share in few]
    curve = pareto(model, device, budgets, strategy=strategy, optimize=Objective.WARM, effort=QUICK)
    assert not curve.too_small
    points = curve.points
    caps = [point.plan.budget_bytes for point in points]
    assert caps == sorted(set(caps))
    assert any(point.efficient for point in points)
    for point in points:
        check_plan(point.plan, model, device)
        mine = point.plan.predicted
        for other in (point.plan.predicted for point in points):
            wins = (
                other.peak_bytes < mine.peak_bytes
                and other.cold_ms < mine.cold_ms
                and other.warm_ms < mine.warm_ms
            )
            assert not (wins and point.efficient)


# --- what people ask for -------------------------------------------------------------------


def test_a_budget_that_is_too_small_says_what_would_help() -> None:
    constraints = Constraints(preload=("w1", "w4"), windows=(Window("w3", 0, 1),))
    with pytest.raises(BudgetTooSmall) as caught:
        make_plan(SAMPLE, PHONE, budget=Budget(bytes=1 << 20), constraints=constraints)
    error = caught.value
    assert dict(error.weights).keys() >= {"w3"}
    assert "w3" in error.message
    assert error.relaxations[0][1] < error.needed
    for text, enough in error.relaxations:
        assert f"drop {text}, then {enough} is enough" in error.hint
    assert any(text == "--window w3=0:1" for text, _ in error.relaxations)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(preload=("ghost",)), "not a weight"),
        (Constraints(stream=("ghost",)), "not a weight"),
        (Constraints(windows=(Window("ghost", 0, 0),)), "not a weight"),
        (Constraints(preload=("w1",), stream=("w1",)), "preloaded and streamed"),
        (Constraints(preload=("w1",), windows=(Window("w1", 0, 1),)), "loaded in a window"),
        (Constraints(windows=(Window("w1", 0, 1), Window("w1", 0, 1))), "two windows"),
        (Constraints(windows=(Window("w1", 2, 1),)), "cannot be loaded between"),
        (Constraints(windows=(Window("w1", 0, 3),)), "layer 2 is the first that uses it"),
    ],
)
def test_contradictions_are_refused(constraints: Constraints, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(SAMPLE, PHONE, budget=Budget(share=0.5), constraints=constraints)


def test_full_preload_streams_nothing() -> None:
    with pytest.raises(UsageError, match="preload pins it"):
        make_plan(
            SAMPLE,
            PHONE,
            budget=Budget(share=1.0),
            strategy=Strategy.PRELOAD,
            constraints=Constraints(stream=("w1",)),
        )


def test_a_large_object_is_counted_where_it_is_loaded_late() -> None:
    """The first layer could hide all of it in one step, but then it would wait for all the rest."""
    size = 1024 * 1000  # of the weight, bytes; each of the later layers hides a quarter
    part_ns = size / 4 / (1.2 * PHONE.disk.value) * 1e9 - PHONE.launch_ns.value
    flops = round(part_ns / 1e9 * PHONE.compute["reusable"].value)
    small = (OperatorClass.REUSABLE, flops, 1000, ())
    model = layers_model(
        [(OperatorClass.REUSABLE, 10 * flops, 1000, ()), *[small] * 20, (*small[:3], (0,))], [1000]
    )
    plan = make_plan(
        model,
        PHONE,
        budget=Budget(share=1.0),
        strategy=Strategy.LC_OPG,
        optimize=Objective.MEMORY,
        effort=QUICK,
    )
    assert plan.streamed[0].load_at >= 16
    # Bytes alone would wait for 2.5 layers on average, as a fluid.
    fluid = (1 - PRICE) * 2.5 * size / len(model.layers)
    assert fluid * 1.2 < plan.bound <= plan.objective


def test_prices_are_shares() -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        Prices(lambda_=1.5)


def deep_model(count: int = 120) -> LoweredModel:
    rng = np.random.default_rng(3)
    kinds = list(OperatorClass)
    return layers_model(
        [(kinds[n % 3], int(rng.integers(10**8)), 10**5, (n,)) for n in range(count)],
        rng.integers(100, 3000, count).tolist(),
    )


@pytest.mark.parametrize("optimize", [Objective.WARM, Objective.MEMORY])
def test_progress_is_told_and_asking_stops_it(optimize: Objective) -> None:
    told: list[tuple[float, float]] = []
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 50

    plan = make_plan(
        deep_model(),
        PHONE,
        budget=Budget(share=0.4),
        strategy=Strategy.LC_OPG,
        optimize=optimize,
        effort=Effort(
            time_s=60, gap=0.0, on_progress=lambda *at: told.append(at), should_stop=should_stop
        ),
    )
    check_plan(plan, deep_model(), PHONE)
    assert plan.solve_ms < 10_000
    assert told
    bests, bounds = zip(*told, strict=True)
    assert list(bests) == sorted(bests, reverse=True)
    assert list(bounds) == sorted(bounds)
    unit = 1e6 if optimize is Objective.WARM else 1
    assert plan.objective * unit == pytest.approx(bests[-1])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("optimize", [Objective.WARM, Objective.MEMORY])
def test_a_model_of_some_size_is_solved_well(optimize: Objective, workers: int) -> None:
    began = perf_counter()
    plan = make_plan(
        deep_model(),
        PHONE,
        budget=Budget(share=0.4),
        strategy=Strategy.LC_OPG,
        optimize=optimize,
        effort=Effort(time_s=5, workers=workers),
    )
    assert perf_counter() - began < 20
    check_plan(plan, deep_model(), PHONE)
    greedy = make_plan(deep_model(), PHONE, budget=Budget(share=0.4), optimize=optimize)
    assert plan.objective < greedy.objective
    assert plan.gap < 0.03 < greedy.gap or plan.status is Status.OPTIMAL


# --- tiers and hints -----------------------------------------------------------------------


def heavy_model() -> LoweredModel:
    """Layers that hide next to nothing, each with a weight of its own, the third the heaviest."""
    layers = [(OperatorClass.REUSABLE, 10**5, 1000, (at,)) for at in range(12)]
    return layers_model(layers, [900 if at == 2 else 300 for at in range(12)])


def softened_plan(effort: Effort, constraints: Constraints) -> Plan:
    plan = make_plan(
        heavy_model(),
        PHONE,
        budget=Budget(share=0.5),
        strategy=Strategy.LC_OPG,
        optimize=Objective.MEMORY,
        constraints=constraints,
        effort=effort,
    )
    check_plan(plan, heavy_model(), PHONE)
    assert plan.over_capacity
    return plan


def test_the_first_tier_softens_load_capacity() -> None:
    all_streamed = Constraints(stream=tuple(heavy_model().weight_uses()))
    assert softened_plan(QUICK, all_streamed).tier in ("soft-capacity", "greedy")
    assert softened_plan(QUICK, Constraints()).tier == "soft-capacity"


def test_the_second_tier_preloads_what_exceeds_capacity_most() -> None:
    problem = build_problem(heavy_model(), PHONE, PHONE.transport)
    free = freedom(problem, Constraints())
    budget = Budget(share=0.5).resolve(
        least_budget(problem, free, free.forced)[0], preload_peak(problem)
    )
    state = Incumbent(problem, free, budget, Objective.MEMORY, PRICE, QUICK)
    state.offer(greedy.least_memory(problem, free, budget))
    preload_violators(state)
    assert state.best.tier == "preload"
    assert state.best.pinned[problem.index["w2"]]
    state.settle(state.best.pinned)
    assert state.best.tier == "preload"  # the same W, only timed better


def test_the_last_tier_is_greedy() -> None:
    plan = softened_plan(Effort(should_stop=lambda: True), Constraints())
    assert plan.tier == "greedy"
    assert not plan.preloaded


@pytest.mark.parametrize("optimize", [Objective.WARM, Objective.MEMORY])
def test_the_solver_starts_from_the_best_plan_so_far(
    optimize: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints: list[list[float]] = []

    def set_hint(solver: object, variables: list[object], values: list[float]) -> None:
        assert len(variables) == len(values)
        hints.append(values)

    monkeypatch.setattr(pywraplp.Solver, "SetHint", set_hint)
    model = deep_model(40)
    problem = build_problem(model, PHONE, PHONE.transport)
    free = freedom(problem, Constraints())
    budget = Budget(share=0.4).resolve(
        least_budget(problem, free, free.forced)[0], preload_peak(problem)
    )
    search(problem, free, budget, optimize, effort=Effort(time_s=2.0, gap=0.0))
    assert hints
    pinned = np.array(hints[0]) > 0.5
    assert least_budget(problem, free, pinned)[0] <= budget
