"""A prepared model's plan, in the planner's two steps: when weights move, then what is unfused.

The second needs the model lowered anew and is why this is not part of plan/.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flashmem_lab.errors import BudgetTooSmall
from flashmem_lab.prepared import Prepared, lowered

if TYPE_CHECKING:
    from flashmem_lab.device import Transport
    from flashmem_lab.plan import Constraints, Effort, Objective, Plan, Prices, Strategy
    from flashmem_lab.units import Budget


def make_plan(
    prepared: Prepared,
    *,
    budget: Budget,
    strategy: Strategy | None = None,
    optimize: Objective | None = None,
    constraints: Constraints | None = None,
    transport: Transport | None = None,
    chunk_bytes: int | None = None,
    prices: Prices | None = None,
    effort: Effort | None = None,
    split_fused: bool = False,
) -> Plan:
    """A checked plan within a budget; the defaults are the greedy strategy for a cold run.

    With `split_fused`, fused layers are split where load capacity runs out, as long as the
    objective gains by it; the plan then says which (`undone_fusions`), and `fitted` lowers the
    model accordingly.

    Raises:
        BudgetTooSmall: with the least feasible budget.
        UsageError: a constraint names an unknown weight, or contradicts another.
    """
    from flashmem_lab import plan as planning
    from flashmem_lab.plan.chunks import CHUNK_BYTES

    prices = prices or planning.Prices()

    def planned(prepared: Prepared, budget: Budget) -> Plan:
        plan = planning.make_plan(
            prepared.model,
            prepared.device,
            budget=budget,
            strategy=strategy or planning.Strategy.GREEDY,
            optimize=optimize or planning.Objective.COLD,
            constraints=constraints or planning.Constraints(),
            transport=transport,
            chunk_bytes=CHUNK_BYTES if chunk_bytes is None else chunk_bytes,
            prices=prices,
            effort=effort,
        )
        planning.check_plan(plan, prepared.model, prepared.device)
        return plan

    plan = planned(prepared, budget)
    whole, layers = plan.objective, prepared
    while split_fused:
        found = planning.splits(plan, layers.model, prepared.device, prices)
        if not found:
            break
        layers = lowered(prepared, {*plan.undone_fusions, *(split.value for split in found)})
        try:
            trial = planned(layers, replace(budget, bytes=plan.budget_bytes, share=None))
        except BudgetTooSmall:  # what is stored now has no room
            break
        if trial.objective >= plan.objective:
            break
        plan = replace(trial, fusion_gain=whole - trial.objective)
    return plan
