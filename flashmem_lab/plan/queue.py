"""Several models in turn under one cap: what is kept for the next round, and one plan for all.

The queue is one long model (`lower.join`), so a model's head is loaded into the room that the tail
of the one before it frees, by the same rule that loads any weight early. What is new is a choice:
a weight of a model that comes again may stay in between. Keeping a byte saves reading it once and
costs its room for as long as the gap lasts, so what is worth most comes back soonest (as in
Belady's rule for caches). Room that is kept is not there for reading ahead; how much to give to
which is tried, on the clock of the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.lower.join import Joined, join
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan.clock import run_ns
from flashmem_lab.plan.constraints import NO_CONSTRAINTS
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.plan import Objective, Plan
from flashmem_lab.plan.planner import make_plan
from flashmem_lab.plan.problem import Ints, Mask, Problem, build_problem
from flashmem_lab.plan.room import earliest_loads, least_budget, residency
from flashmem_lab.units import Budget

KEPT_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the free room at each step that kept weights may take; each one is tried."""

EQUAL = 1.005
"""Predicted times this close are the same; no device keeps time better."""


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """A joint plan.

    Attributes:
        joined: the queue as one model, kept weights merged.
        plan: for that model.
        kept_bytes: read once less often because they stayed.
        least_bytes: least feasible budget: of the model that needs most.
        preload_peak_bytes: with every distinct weight resident all along.
    """

    joined: Joined
    plan: Plan
    kept_bytes: int
    least_bytes: int
    preload_peak_bytes: int


def plan_queue(
    models: Sequence[LoweredModel],
    device: DeviceSpec,
    *,
    budget: Budget,
    transport: Transport | None = None,
) -> QueuePlan:
    """Plans models that run in turn under one cap, for the least time from first to last.

    Args:
        models: in their order; one that comes again is the same object each time.
        device: where.
        budget: cap on everything held at once; a share runs from the least feasible budget to
            all distinct weights resident.
        transport: how bytes move; the device's preference by default.

    Raises:
        BudgetTooSmall: a model's least plan does not fit.
        UsageError: as `make_plan`.
    """
    apart = join(models)
    problem = build_problem(apart.model, device, transport or device.transport)
    none = np.zeros(len(problem.weights), dtype=bool)
    least, _ = least_budget(problem, freedom(problem, NO_CONSTRAINTS), none)
    repeats = _repeats(apart, models, problem)
    distinct = int(problem.size[np.setdiff1d(np.arange(len(none)), repeats.values)].sum())
    full = problem.staging.bytes + distinct + int(problem.activation.max())
    cap = budget.resolve(least, full)
    kept = none
    if len(repeats.values) and cap >= least:
        kept = _best_kept(problem, repeats, cap)
    copies = _copies(apart, problem, repeats, kept)
    joined = join(models, copies)
    plan = make_plan(
        joined.model,
        device,
        budget=Budget(bytes=cap),
        optimize=Objective.COLD,
        transport=transport,
    )
    return QueuePlan(joined, plan, int(problem.size[kept].sum()), least, full)


@dataclass(frozen=True, slots=True, eq=False)
class _Repeats:
    """Weights that were on the device before.

    Attributes:
        values: (r,) their positions in the problem, in order of use.
        before: (r,) positions of the copies right before them.
    """

    values: Ints
    before: Ints


def _repeats(apart: Joined, models: Sequence[LoweredModel], problem: Problem) -> _Repeats:
    last: dict[tuple[int, str], int] = {}
    pairs = []
    for at, weight in enumerate(problem.weights):
        place, name = apart.weights[weight]
        key = (id(models[place]), name)
        if key in last:
            pairs.append((at, last[key]))
        last[key] = at
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return _Repeats(found[:, 0], found[:, 1])


def _best_kept(problem: Problem, repeats: _Repeats, cap: int) -> Mask:
    """(n,) the repeats to keep: of the fastest choices, the one that reads least."""
    tried: list[tuple[float, int, Mask]] = []
    for share in KEPT_SHARES:
        kept = _keep(problem, repeats, cap, share)
        merged = _merged(problem, repeats, kept)
        nothing = np.zeros(len(merged.weights), dtype=bool)
        free = freedom(merged, NO_CONSTRAINTS)
        if least_budget(merged, free, nothing)[0] <= cap:
            loads = earliest_loads(merged, free, nothing, cap)
            took = run_ns(merged, nothing, loads, cold=True)
            tried.append((took, int(problem.size[kept].sum()), kept))
    fastest = min(took for took, _, _ in tried)  # keeping nothing is always possible
    return max((one for one in tried if one[0] <= fastest * EQUAL), key=lambda one: one[1])[2]


def _keep(problem: Problem, repeats: _Repeats, cap: int, share: float) -> Mask:
    """(n,) repeats whose earlier copy stays: shortest gaps first, within `share` of the room."""
    kept = np.zeros(len(problem.weights), dtype=bool)
    room = cap - residency(problem, kept, problem.first)
    room = np.floor(room * share).astype(np.int64)
    ends = np.cumsum(problem.duration_ns)
    gap_ns = ends[problem.first[repeats.values]] - ends[problem.last[repeats.before]]
    for pair in np.argsort(gap_ns, kind="stable").tolist():
        at = int(repeats.values[pair])
        between = slice(int(problem.last[repeats.before[pair]]) + 1, int(problem.first[at]))
        size = problem.size[at]
        if room[between].min(initial=size) >= size:
            room[between] -= size
            kept[at] = True
    return kept


def _chains(problem: Problem, repeats: _Repeats, kept: Mask) -> Ints:
    """(n,) the first copy of the chain that each weight belongs to."""
    head = np.arange(len(problem.weights))
    for at, before in zip(repeats.values.tolist(), repeats.before.tolist(), strict=True):
        if kept[at]:
            head[at] = head[before]  # in order of use: the one before has its head already
    return head


def _merged(problem: Problem, repeats: _Repeats, kept: Mask) -> Problem:
    """The problem in which a kept weight is one that is used longer."""
    last = problem.last.copy()
    np.maximum.at(last, _chains(problem, repeats, kept), problem.last)
    names = tuple(name for name, gone in zip(problem.weights, kept, strict=True) if not gone)
    return replace(
        problem,
        weights=names,
        size=problem.size[~kept],
        first=problem.first[~kept],
        last=last[~kept],
        chunks=problem.chunks[~kept],
        chunk=problem.chunk[~kept],
        tail=problem.tail[~kept],
        index={name: at for at, name in enumerate(names)},
    )


def _copies(
    apart: Joined, problem: Problem, repeats: _Repeats, kept: Mask
) -> dict[tuple[int, str], int]:
    """What `join` needs to know of the weights that stay."""
    head = _chains(problem, repeats, kept)
    return {
        apart.weights[problem.weights[at]]: apart.weights[problem.weights[head[at]]][0]
        for at in np.flatnonzero(kept).tolist()
    }
