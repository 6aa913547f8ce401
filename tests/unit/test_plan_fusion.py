"""Adaptive fusion: which cuts are offered, and plans that undo fusions from file to run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flashmem_lab import workflow
from flashmem_lab.device import Quantity, simulated_devices
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import LoweredModel, OperatorClass, Part
from flashmem_lab.plan import Objective, Plan, Prices, Strategy, check_plan, make_plan, splits
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, layers_model
from tests.unit.small_models import small_model


def part(name: str, op_class: OperatorClass, size: int) -> Part:
    return Part(name, f"{name}.out", "map", op_class, 1000, size, size, ())


def fused(op_class: OperatorClass, *parts: Part) -> LoweredModel:
    """One fused layer, then one whose weight no layer before it can hide."""
    model = layers_model([(op_class, 10**6, 4000, ()), (op_class, 10**6, 4000, (0,))], [3000])
    first = replace(model.layers[0], parts=parts)
    return replace(model, layers=(first, *model.layers[1:]))


GEMM = part("gemm", OperatorClass.REUSABLE, 4000)
GELU = part("gelu", OperatorClass.ELEMENTAL, 4000)
ADD = part("add", OperatorClass.ELEMENTAL, 4000)


def test_a_cut_is_offered_where_the_halves_hide_more() -> None:
    model = fused(OperatorClass.REUSABLE, GEMM, GELU, ADD)
    plan = make_plan(model, PHONE, budget=Budget(share=1.0), optimize=Objective.MEMORY)
    assert plan.over_capacity
    (split,) = splits(plan, model, PHONE, Prices())
    assert (split.layer, split.value) == (0, "gemm.out")
    # A map alone takes a launch and hides four times as much as it lasts.
    launch = PHONE.launch_ns.value * 1e-9 * PHONE.disk.value
    assert split.gain == pytest.approx(4 * launch, rel=0.05)


def test_hierarchical_and_whole_layers_stay() -> None:
    norm = part("norm", OperatorClass.HIERARCHICAL, 4000)
    for model in (
        fused(OperatorClass.HIERARCHICAL, norm, GELU),
        fused(OperatorClass.REUSABLE),
    ):
        plan = make_plan(model, PHONE, budget=Budget(share=1.0), optimize=Objective.MEMORY)
        assert splits(plan, model, PHONE, Prices()) == ()


def test_nothing_is_split_while_capacity_lasts() -> None:
    model = fused(OperatorClass.REUSABLE, GEMM, GELU)
    pinned = make_plan(model, PHONE, budget=Budget(share=1.0), strategy=Strategy.PRELOAD)
    assert splits(pinned, model, PHONE, Prices()) == ()


def test_a_value_that_has_no_room_is_dearer() -> None:
    big = replace(GEMM, bytes_written=10**8)
    costs = []
    for first in (GEMM, big):
        model = fused(OperatorClass.REUSABLE, first, GELU)
        plan = make_plan(model, PHONE, budget=Budget(share=1.0), optimize=Objective.MEMORY)
        (split,) = splits(plan, model, PHONE, Prices(lambda_=0.5))
        costs.append(split.penalty)
    assert costs[1] - costs[0] >= 0.5 * (10**8 - plan.budget_bytes)


def test_a_plan_with_undone_fusions_runs_from_its_file(tmp_path: Path) -> None:
    device = replace(simulated_devices()["sim:adreno750"], disk=Quantity(1e7, "a slow disk"))
    prepared = workflow.load(small_model(tmp_path), device=device, dims={"batch": 2})
    asked = {"budget": Budget(share=0.5), "optimize": Objective.MEMORY}
    whole = workflow.make_plan(prepared, **asked)
    plan = workflow.make_plan(prepared, **asked, split_fused=True)
    assert plan.undone_fusions
    assert plan.fusion_gain > 0
    assert plan.fusion_gain == pytest.approx(whole.objective - plan.objective)
    assert plan.budget_bytes == whole.budget_bytes
    with pytest.raises(PlanError, match="fusions undone"):
        check_plan(plan, prepared.model, device)
    workflow.save_plan(plan, tmp_path / "plan.json")
    loaded = workflow.load_plan(tmp_path / "plan.json")
    assert loaded == plan
    finer = workflow.fitted(prepared, loaded)
    assert len(finer.model.layers) > len(prepared.model.layers)
    check_plan(loaded, finer.model, device)
    outcome = workflow.run(prepared, loaded, cache=tmp_path / "cache")
    assert outcome.result.peak_bytes["total"] <= plan.budget_bytes
    with pytest.raises(PlanError, match="does not have"):
        workflow.fitted(prepared, replace(plan, undone_fusions=("ghost",)))


def test_where_nothing_is_to_be_split_there_is_one_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counting(*given: Any, **asked: Any) -> Plan:
        made.append(make_plan(*given, **asked))
        return made[-1]

    monkeypatch.setattr("flashmem_lab.plan.make_plan", counting)
    prepared = workflow.load(small_model(tmp_path), device=PHONE, dims={"batch": 2})
    budget = Budget(share=1.0)
    plan = workflow.make_plan(prepared, budget=budget, strategy=Strategy.PRELOAD, split_fused=True)
    assert made == [plan]
