"""The dynamic program of the memory objective against exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashmem_lab.device import DeviceSpec
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import Constraints, dynamic
from flashmem_lab.plan.dynamic import least_waiting
from flashmem_lab.plan.freedom import Freedom, freedom
from flashmem_lab.plan.problem import build_problem
from flashmem_lab.plan.room import earliest_loads, least_budget, preload_peak, residency
from flashmem_lab.plan.score import memory_cost
from flashmem_lab.units import Budget
from tests.unit.plan_exhaustive import all_schedules
from tests.unit.plan_samples import PHONE, SAMPLE, devices, models, shares

PRICE = 0.9


@settings(max_examples=60)
@given(models(4), devices, shares, st.sampled_from([0.5, 0.9, 0.99]))
def test_no_schedule_costs_less_than_the_bound(
    model: LoweredModel, device: DeviceSpec, share: float, price: float
) -> None:
    problem = build_problem(model, device, device.transport)
    free = freedom(problem, Constraints())
    least = least_budget(problem, free, free.forced)[0]
    budget = Budget(share=share).resolve(least, preload_peak(problem))
    costs = [memory_cost(problem, one, price) for one in all_schedules(problem, free, budget)]
    floor = earliest_loads(problem, free, free.forced, budget)
    found = least_waiting(problem, free, floor, price, min(costs) * 2 + 1)
    assert found is not None
    assert found.bound <= min(costs) * (1 + 1e-9)


@settings(max_examples=60)
@given(models(4), devices, shares, st.data())
def test_what_is_pinned_being_given_the_schedule_is_the_best(
    model: LoweredModel, device: DeviceSpec, share: float, data: st.DataObject
) -> None:
    problem = build_problem(model, device, device.transport)
    open_ = freedom(problem, Constraints())
    pins = data.draw(st.lists(st.booleans(), min_size=len(problem.weights), max_size=64))
    pinned = np.array(pins[: len(problem.weights)])
    free = Freedom(pinned, ~pinned, open_.earliest, open_.latest, windowed=False)
    least = least_budget(problem, free, pinned)[0]
    budget = Budget(share=share).resolve(least, preload_peak(problem))
    best = min(memory_cost(problem, one, PRICE) for one in all_schedules(problem, free, budget))
    floor = earliest_loads(problem, free, pinned, budget)
    found = least_waiting(problem, free, floor, PRICE, best * 2 + 1)
    assert found is not None
    assert (found.schedule.pinned == pinned).all()
    assert residency(problem, pinned, found.schedule.load_at).max() <= budget
    took = memory_cost(problem, found.schedule, PRICE)
    assert found.bound <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= took <= best * (1 + 1e-3)


def test_merged_labels_still_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = build_problem(SAMPLE, PHONE, PHONE.transport)
    free = freedom(problem, Constraints())
    fine = least_waiting(problem, free, free.earliest, PRICE, np.inf)
    monkeypatch.setattr(dynamic, "LABELS", 3)
    coarse = least_waiting(problem, free, free.earliest, PRICE, np.inf)
    assert fine is not None
    assert coarse is not None
    assert 0 < coarse.bound <= fine.bound


def test_nothing_below_the_ceiling_is_said() -> None:
    problem = build_problem(SAMPLE, PHONE, PHONE.transport)
    free = freedom(problem, Constraints())
    found = least_waiting(problem, free, free.earliest, PRICE, np.inf)
    assert found is not None
    assert least_waiting(problem, free, free.earliest, PRICE, found.bound * 0.999) is None


def test_it_stops_when_told() -> None:
    problem = build_problem(SAMPLE, PHONE, PHONE.transport)
    free = freedom(problem, Constraints())
    asked = iter([False, True])
    assert (
        least_waiting(problem, free, free.earliest, PRICE, np.inf, stop=lambda: next(asked)) is None
    )
    assert next(asked, None) is None
