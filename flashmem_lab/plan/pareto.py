"""Time against memory: plans for many budgets in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.constraints import NO_CONSTRAINTS, Constraints
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.incumbent import Effort
from flashmem_lab.plan.plan import Objective, Plan, Strategy
from flashmem_lab.plan.planner import Request, plan_problem
from flashmem_lab.plan.problem import build_problem
from flashmem_lab.plan.room import least_budget, preload_peak
from flashmem_lab.plan.score import PAPERS_PRICES, Prices
from flashmem_lab.units import Budget


@dataclass(frozen=True, slots=True)
class Point:
    """One budget's plan.

    Attributes:
        plan: for that budget.
        efficient: no other point is at least as good in peak, cold and warm time, and better in
            one of them; it lies on the curve.
    """

    plan: Plan
    efficient: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Plans for many budgets.

    Attributes:
        points: from the smallest budget to the largest.
        too_small: budgets that no plan fits, bytes.
        least_bytes: what would fit.
    """

    points: tuple[Point, ...]
    too_small: tuple[int, ...]
    least_bytes: int


def pareto(
    model: LoweredModel,
    device: DeviceSpec,
    budgets: Sequence[Budget],
    *,
    strategy: Strategy = Strategy.GREEDY,
    optimize: Objective = Objective.COLD,
    constraints: Constraints = NO_CONSTRAINTS,
    transport: Transport | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    prices: Prices = PAPERS_PRICES,
    effort: Effort | None = None,
) -> Curve:
    """Plans for all budgets.

    The model is reduced to arrays once, and what one plan pins is lc-opg's first try for the next
    larger budget. Arguments are those of `make_plan`.

    Args:
        model: what is to run.
        device: where.
        budgets: each as for one plan; equal ones are planned once.
        strategy: who decides.
        optimize: what is made least.
        constraints: hold for every point.
        transport: how bytes move.
        chunk_bytes: how much of a weight moves at once.
        prices: of the memory objective.
        effort: for each point.

    Raises:
        BudgetTooSmall: for `preload`, a budget does not hold every weight.
        UsageError: as `make_plan`.
    """
    transport = transport or device.transport
    problem = build_problem(model, device, transport, chunk_bytes=chunk_bytes)
    free = freedom(problem, constraints)
    least, full = least_budget(problem, free, free.forced)[0], preload_peak(problem)
    request = Request(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device=device.id,
        transport=transport,
        budget=Budget(bytes=full),
        strategy=strategy,
        optimize=optimize,
        constraints=constraints,
        chunk_bytes=chunk_bytes,
        prices=prices,
        undone_fusions=model.unfused,
    )
    plans: list[Plan] = []
    hint = None
    caps = sorted({budget.resolve(least, full) for budget in budgets})
    too_small = tuple(cap for cap in caps if cap < least)
    for cap in caps[len(too_small) :]:
        plan = plan_problem(
            problem, replace(request, budget=Budget(bytes=cap)), effort=effort, hint=hint
        )
        hint = problem.mask(plan.preloaded)
        plans.append(plan)
    places = [
        (plan.predicted.peak_bytes, plan.predicted.cold_ms, plan.predicted.warm_ms)
        for plan in plans
    ]
    points = zip(plans, efficient(places), strict=True)
    return Curve(tuple(Point(plan, on) for plan, on in points), too_small, least)


def efficient(places: Sequence[tuple[float, ...]]) -> tuple[bool, ...]:
    """Of each place whether no other one is at least as good in all figures and better in one."""
    return tuple(not any(_beats(other, place) for other in places) for place in places)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
