"""The lc-opg strategy: a solver and a search on the exact clock, side by side.

The search starts from the best of the other strategies and only ever improves on it. The solver
(`lcopg`) says what no plan can beat and which weights to pin if bytes were a fluid; the search
starts anew from there, because objects are whole.
For `memory` a dynamic program (`dynamic`) times each W that is worth it, and often settles W too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from flashmem_lab.plan import baselines, greedy
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.incumbent import Effort, Incumbent
from flashmem_lab.plan.lcopg import Chooser
from flashmem_lab.plan.lead import giants
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Mask, Problem
from flashmem_lab.plan.score import PAPERS_PRICES, quick_bound, unhidden
from flashmem_lab.plan.slices import Slices
from flashmem_lab.plan.walk import Walk

RELAXING = 0.3
"""Share of the time after which no further relaxation is begun."""

SLICES = (0.01, 0.005, 0.002, 0.001)
"""Gaps to prove for warm, one after the other."""

GOOD = 0.01
"""Gap above which the search uses all the time it has."""

WALK, TURNS = 0.25, (0.3, 0.4, 0.6)
"""Shares of the time left that a walk takes, and slices, turn by turn."""

RESERVES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the relaxation's pins that are left to streaming instead, to round from."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A schedule, what it costs, what no schedule can beat, and the time to the first one."""

    schedule: Schedule
    objective: float
    bound: float
    first_ms: float


def search(
    problem: Problem,
    free: Freedom,
    budget: int,
    optimize: Objective,
    *,
    price: float = PAPERS_PRICES.lambda_,
    effort: Effort | None = None,
    hint: Mask | None = None,
) -> Found:
    """The best schedule that can be found and a bound; never worse than the other strategies'.

    Args:
        problem: the model on a device.
        free: what is not decided yet.
        budget: bytes; holds the least feasible plan.
        optimize: what is made least.
        price: lambda of the memory objective.
        effort: when to end.
        hint: (n,) a W to try first, such as that of a budget nearby.
    """
    state = Incumbent(problem, free, budget, optimize, price, effort or Effort())
    for schedule in _incumbents(problem, free, budget, optimize):
        state.offer(schedule)
    first_ms = state.elapsed_s * 1e3
    state.raise_bound(quick_bound(problem, free, optimize, budget, price))
    if hint is not None and not (hint & free.never).any() and not (free.forced & ~hint).any():
        state.try_pins(hint)
    if optimize is not Objective.COLD and not state.done:
        _solve_and_improve(state)
    best, objective = state.best, state.objective
    if not state.found_by_search:
        best = replace(best, tier=_incumbent_tier(problem, best, optimize))
    return Found(best, objective, min(state.bound, objective), first_ms)


def _incumbents(
    problem: Problem, free: Freedom, budget: int, optimize: Objective
) -> Iterator[Schedule]:
    yield greedy.plan_for(optimize)(problem, free, budget)
    yield baselines.always_next(problem, free, budget)
    yield baselines.same_op(problem, free, budget)


def _incumbent_tier(problem: Problem, schedule: Schedule, optimize: Objective) -> str:
    """The last tier: nothing that the solver or the search found is better than greedy."""
    softened = optimize is Objective.MEMORY and unhidden(problem, schedule).sum() > 0
    return "greedy" if softened else ""


# --- solver and search ---------------------------------------------------------------------


def _solve_and_improve(state: Incumbent) -> None:
    """The solver works beside the search, or with one worker before it."""
    if state.optimize is Objective.MEMORY:
        state.choose_and_settle()
        state.settle(state.free.forced)
        if state.done:
            return
    alone = state.effort.workers < 2
    share = 0.5 if alone else 0.75  # the rest is for what it found
    if state.optimize is Objective.WARM and not alone:
        share = 0.95  # walking finds the same beside it
    solver = _chooser(state, time_s=share * state.left_s)
    walk = Walk(state, random.Random(state.effort.seed))
    solver.start()
    try:
        if alone:
            solver.wait(lambda: state.done)
        if state.optimize is Objective.WARM:
            _walk_and_slices(state, walk)
        else:
            rounded = _round_relaxations(state)
            preload_violators(state)
            walk.improve(rounded)  # best as far as the walk can tell, which leaves late bytes out
            _walk_from_giants(state, walk)
        walk.improve(state.best.pinned)
        solver.wait(lambda: state.done)
        choice = solver.result()
    finally:
        solver.stop()
    state.raise_bound(choice.bound)
    starts = [state.best.pinned]
    if choice.pinned is not None:
        starts.append(choice.pinned > 0.5)
    if state.optimize is Objective.WARM:
        _prove_by_slices(state, walk, starts)
    for start in reversed(starts):
        state.settle(start)
        walk.improve(start)
    if not state.near(GOOD):
        walk.improve_on(lambda: state.near(GOOD))


def _walk_from_giants(state: Incumbent, walk: Walk) -> None:
    """From W of some giants alone: exchanging small weights for one of them is a long way."""
    largest = giants(state.problem, state.free)
    for count in range(1, len(largest) + 1):
        for some in combinations(largest, count):
            pinned = state.free.forced.copy()
            pinned[list(some)] = True
            if state.schedule_of(pinned) is not None:
                walk.improve(pinned, WALK)


def _walk_and_slices(state: Incumbent, walk: Walk) -> None:
    """Walks find what is better near a plan, and slices plans that are far from those known."""
    walk.improve(state.best.pinned, WALK)
    _walk_from_giants(state, walk)
    slices = Slices(state)
    for share in TURNS:
        slices.improve(share)
        walk.improve(state.best.pinned, WALK)


def _chooser(
    state: Incumbent,
    *,
    relaxed: bool = False,
    least: float = 0.0,
    most: float = np.inf,
    enough: float = np.inf,
    whole: bool = False,
    time_s: float,
) -> Chooser:
    return Chooser(
        state.problem,
        state.free,
        state.budget,
        state.optimize,
        price=state.price,
        relaxed=relaxed,
        least=least,
        most=most,
        ceiling=state.objective,
        enough=enough,
        whole=whole,
        hint=state.best.pinned,
        time_s=time_s,
    )


def _prove_by_slices(state: Incumbent, walk: Walk, starts: list[Mask]) -> None:
    """Bounds warm plans by how much they pin.

    What is not pinned is read in every run, so a plan that pins little is too slow for that alone.
    Those that pin more leave little room to stream, and knowing how little makes the program far
    stronger. From the most that can be pinned down, a slice for each gap.
    """
    problem = state.problem
    most, proven = np.inf, np.inf
    for gap in SLICES:
        target = state.objective * (1 - gap)
        least = float(problem.size.sum()) - target * problem.disk / 1e9
        if state.done or target <= state.bound or least >= most:
            continue
        solver = _chooser(
            state, least=least, most=most, enough=target, whole=True, time_s=state.left_s
        )
        solver.start()
        try:
            walk.improve(starts.pop() if starts else state.best.pinned)
            walk.improve_on(solver.idle)
            solver.wait(lambda: state.done)
            proven = min(proven, solver.result().bound)
        finally:
            solver.stop()
        state.raise_bound(min(proven, target))
        if proven < target:
            return
        most = least


def _round_relaxations(state: Incumbent) -> Mask:
    """Solves the relaxation with ever more room left to streaming, and rounds what it pins.

    Returns:
        (n,) the best W of them by its estimate; that of the best schedule if there is none.
    """
    kept, best, least = np.inf, state.best.pinned, np.inf
    for reserve in RESERVES:
        if state.done or state.elapsed_s > RELAXING * state.effort.time_s:
            break
        most = kept * (1 - reserve) if reserve else np.inf
        choice = _chooser(state, relaxed=True, most=most, time_s=state.left_s).result()
        if choice.pinned is None:
            break
        if not reserve:
            kept = float(choice.pinned @ state.problem.size)
            state.raise_bound(choice.bound)
        for threshold in (0.999, 0.5, 0.2):
            pinned = choice.pinned >= threshold
            state.try_pins(pinned)
            estimate = state.estimate(pinned)
            if estimate < least:
                best, least = pinned, estimate
    return best


def preload_violators(state: Incumbent) -> None:
    """The paper's second fallback: where capacity is exceeded most, the heaviest weight joins W."""
    current = state.best
    for _ in range(len(state.problem.weights)):
        late = unhidden(state.problem, current)
        if state.done or not late.sum():
            return
        layer = state.problem.first[int(late.argmax())]
        open_ = ~current.pinned & ~state.free.never & (state.problem.first == layer)
        if not open_.any():
            return
        pinned = current.pinned.copy()
        pinned[int(np.where(open_, state.problem.size, -1).argmax())] = True
        schedule = state.schedule_of(pinned)
        if schedule is None:
            return
        current = replace(schedule, tier="preload" if schedule.tier else "")
        state.offer(current, searched=True)
