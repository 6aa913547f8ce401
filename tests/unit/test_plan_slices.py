"""Bounds and plans of slices of pinned bytes against exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashmem_lab.device import DeviceSpec
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import Constraints, Effort, Objective, ways
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.incumbent import Incumbent
from flashmem_lab.plan.lead import Lead
from flashmem_lab.plan.problem import Problem, build_problem
from flashmem_lab.plan.room import least_budget, preload_peak
from flashmem_lab.plan.score import cost
from flashmem_lab.plan.slices import Slices
from flashmem_lab.plan.ways import Ways
from flashmem_lab.units import Budget
from tests.unit.plan_exhaustive import all_schedules
from tests.unit.plan_samples import devices, models, shares

ANY_PRICE = st.floats(0.0, 2.0)


def budgeted(model: LoweredModel, device: DeviceSpec, share: float) -> tuple[Problem, int]:
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, Constraints())
    least = least_budget(problem, free, free.forced)[0]
    return problem, Budget(share=share).resolve(least, preload_peak(problem))


@pytest.mark.parametrize("labels", [2, 1500])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models(4), devices, shares, shares, shares, ANY_PRICE)
def test_no_plan_of_a_slice_costs_less_than_its_bounds(
    labels: int,
    monkeypatch: pytest.MonkeyPatch,
    model: LoweredModel,
    device: DeviceSpec,
    share: float,
    one: float,
    other: float,
    price: float,
) -> None:
    monkeypatch.setattr(ways, "LABELS", labels)
    problem, budget = budgeted(model, device, share)
    free = freedom(problem, Constraints())
    lead = Lead(problem, free, budget)
    least, most = (lead.most * part for part in sorted((one, other)))
    costs = [
        cost(problem, schedule, Objective.WARM, 0.9)
        for schedule in all_schedules(problem, free, budget)
        if least <= problem.size[schedule.pinned].sum() <= most
    ]
    ceiling = 3 * (problem.compute_ns + float(problem.size.sum()) / lead.rate)
    cheapest = min(costs, default=ceiling) * (1 + 1e-9)
    beside = lead.beside(least)
    assert lead.reading(most) <= cheapest
    assert not costs or beside.unstreamable <= most
    assert beside.quick_bound(most, price / lead.rate) <= cheapest or not costs
    assert Ways(beside).bound(most, price / lead.rate, ceiling).bound <= cheapest


@settings(max_examples=40)
@given(models(6), devices, shares, shares, ANY_PRICE, st.data())
def test_what_a_beam_pins_is_no_more_than_asked_and_as_demanded(
    model: LoweredModel,
    device: DeviceSpec,
    share: float,
    part: float,
    price: float,
    data: st.DataObject,
) -> None:
    problem, _ = budgeted(model, device, share)
    kinds = data.draw(st.lists(st.sampled_from("psx"), min_size=64, max_size=64))
    demands = Constraints(
        preload=tuple(
            name for name, kind in zip(problem.weights, kinds, strict=False) if kind == "p"
        ),
        stream=tuple(
            name for name, kind in zip(problem.weights, kinds, strict=False) if kind == "s"
        ),
    )
    free = freedom(problem, demands)
    least = least_budget(problem, free, free.forced)[0]
    lead = Lead(problem, free, Budget(share=share).resolve(least, preload_peak(problem)))
    for pinned in Ways(lead.beside(part * lead.most)).plans(
        part * lead.most, price / lead.rate, 1e15
    ):
        assert problem.size[pinned].sum() <= part * lead.most + 1
        assert not (pinned & free.never).any()
        assert not (free.forced & ~pinned & (problem.size > lead.light)).any()


@settings(max_examples=30)
@given(models(4, shared=False), devices, shares)
def test_slices_together_bound_every_plan(
    model: LoweredModel, device: DeviceSpec, share: float
) -> None:
    problem, budget = budgeted(model, device, share)
    free = freedom(problem, Constraints())
    schedules = all_schedules(problem, free, budget)
    costs = [cost(problem, schedule, Objective.WARM, 0.9) for schedule in schedules]
    state = Incumbent(problem, free, budget, Objective.WARM, 0.9, Effort(time_s=3.0, gap=0.0))
    state.offer(schedules[int(np.argmax(costs))])
    Slices(state).improve(1.0)
    assert state.bound <= min(costs) * (1 + 1e-9)
    assert state.objective >= min(costs) * (1 - 1e-9)
