"""The lc-opg strategy: a solver and a search on the exact clock, side by side.

The search starts from the best of the other strategies and only ever improves on it. The solver
(`lcopg`) says what no plan can beat and which weights to pin if bytes were a fluid; the search
starts anew from there, because objects are whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from flashmem_lab.plan import baselines, greedy
from flashmem_lab.plan.clock import ns_at_least
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.lcopg import Chooser
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Ints, Mask, Problem
from flashmem_lab.plan.room import earliest_loads, least_budget
from flashmem_lab.plan.score import PAPERS_PRICES, cost, memory_cost, quick_bound, unhidden

Told = Callable[[float, float], None]
"""Called with the best objective and the bound so far, bytes or ns, at every improvement."""

RESERVES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the relaxation's pins that are left to streaming instead, to round from."""

PATIENCE = 4000
"""Steps of the search without an improvement, after which it has converged: at most these,"""

PATIENCE_PER_WEIGHT = 20
"""and at most this many for each weight that may be pinned or not."""

FEW = 8
"""Open weights of which every subset is tried instead."""

REMOTE = 0.5
"""Share of the steps that exchange two weights anywhere, not two near each other in the order."""

NEAR = 12
"""Places in the order that are near."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard lc-opg tries.

    Attributes:
        time_s: limit, seconds.
        workers: 2 solve and search side by side, 1 one after the other.
        gap: relative gap at which it stops.
        seed: of the search.
        on_progress: told of improvements.
        should_stop: asked again and again; True ends the search with the best plan so far.
    """

    time_s: float = 10.0
    workers: int = 2
    gap: float = 1e-3
    seed: int = 0
    on_progress: Told | None = None
    should_stop: Callable[[], bool] | None = None


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
    state = _State(problem, free, budget, optimize, price, effort or Effort())
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


@dataclass(slots=True)
class _State:
    """The best schedule so far, the best bound, and the clock."""

    problem: Problem
    free: Freedom
    budget: int
    optimize: Objective
    price: float
    effort: Effort
    best: Schedule = field(init=False)
    objective: float = np.inf
    bound: float = 0.0
    found_by_search: bool = False
    began: float = field(default_factory=perf_counter)

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self.began

    @property
    def stopped(self) -> bool:
        """Out of time, or told to stop."""
        asked = self.effort.should_stop
        return self.elapsed_s > self.effort.time_s or (asked is not None and asked())

    @property
    def done(self) -> bool:
        """Near enough to the bound, or stopped."""
        return self.objective - self.bound <= self.effort.gap * self.objective or self.stopped

    def offer(self, schedule: Schedule, *, searched: bool = False) -> None:
        """Takes the schedule if it is the best, by its exact cost."""
        objective = cost(self.problem, schedule, self.optimize, self.price)
        if objective < self.objective:
            self.best, self.objective = schedule, objective
            self.found_by_search = searched
            self._tell()

    def raise_bound(self, bound: float) -> None:
        """Takes the bound if it says more."""
        if bound > self.bound:
            self.bound = bound
            self._tell()

    def _tell(self) -> None:
        if self.effort.on_progress is not None:
            self.effort.on_progress(self.objective, min(self.bound, self.objective))

    def schedule_of(self, pinned: Mask) -> Schedule | None:
        """The best schedule for this W, or None where the budget cannot hold it."""
        problem, free, budget = self.problem, self.free, self.budget
        if least_budget(problem, free, pinned)[0] > budget:
            return None
        if self.optimize is Objective.MEMORY:
            return greedy.latest_within(problem, free, pinned, budget, ~pinned)
        return Schedule(pinned, earliest_loads(problem, free, pinned, budget))

    def estimate(self, pinned: Mask) -> float:
        """What W costs, to within a chunk's upload; infinite where it does not fit."""
        schedule = self.schedule_of(pinned)
        if schedule is None:
            return np.inf
        if self.optimize is Objective.MEMORY:
            return memory_cost(self.problem, schedule, self.price)
        return ns_at_least(self.problem, schedule.pinned, schedule.load_at, cold=False)

    def try_pins(self, pinned: Mask) -> None:
        """Offers the best schedule for this W, if there is one."""
        schedule = self.schedule_of(pinned)
        if schedule is not None:
            self.offer(schedule, searched=True)


# --- solver and search ---------------------------------------------------------------------


def _solve_and_improve(state: _State) -> None:
    """The solver works beside the search, or with one worker before it."""
    alone = state.effort.workers < 2
    share = 0.5 if alone else 0.75  # the rest is for searching from what it found
    solver = _chooser(state, time_s=share * (state.effort.time_s - state.elapsed_s))
    walk = _Walk(state, random.Random(state.effort.seed))
    solver.start()
    try:
        if alone:
            solver.wait(lambda: state.done)
        _round_relaxations(state)
        if state.optimize is Objective.MEMORY:
            _preload_violators(state)
        walk.improve(state.best.pinned)
        solver.wait(lambda: state.done)
        choice = solver.result()
        state.raise_bound(choice.bound)
        if choice.pinned is not None:
            walk.improve(choice.pinned > 0.5)
        walk.improve(state.best.pinned)
    finally:
        solver.stop()


def _chooser(
    state: _State, *, relaxed: bool = False, most: float = np.inf, time_s: float
) -> Chooser:
    return Chooser(
        state.problem,
        state.free,
        state.budget,
        state.optimize,
        price=state.price,
        relaxed=relaxed,
        most=most,
        time_s=time_s,
    )


def _round_relaxations(state: _State) -> None:
    """Solves the relaxation with ever more room left to streaming, and rounds what it pins."""
    kept = np.inf
    for reserve in RESERVES:
        if state.done:
            return
        most = kept * (1 - reserve) if reserve else np.inf
        choice = _chooser(state, relaxed=True, most=most, time_s=state.effort.time_s).result()
        if choice.pinned is None:
            return
        if not reserve:
            kept = float(choice.pinned @ state.problem.size)
            state.raise_bound(choice.bound)
        for threshold in (0.999, 0.5, 0.2):
            state.try_pins(choice.pinned >= threshold)


def _preload_violators(state: _State) -> None:
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


class _Walk:
    """Exchanges weights in W for others as long as that does not cost more."""

    def __init__(self, state: _State, rng: random.Random) -> None:
        self._state, self._rng = state, rng
        size, free = state.problem.size, state.free
        open_ = ~free.forced & ~free.never
        if open_.sum() > FEW:
            open_ &= size * 1000 > size.max()  # the light ones decide nothing
        self._open: Ints = np.flatnonzero(open_)

    def improve(self, start: Mask) -> None:
        """Walks from `start` until nothing has improved for long, and offers the best of it."""
        state = self._state
        if not len(self._open):
            return
        if len(self._open) <= FEW:
            self._try_all()
            return
        pinned, idle = start.copy(), 0
        patience = min(PATIENCE, PATIENCE_PER_WEIGHT * len(self._open))
        current = state.estimate(pinned)
        while idle < patience and not state.done:
            changed = self._neighbour(pinned)
            objective = state.estimate(changed)
            idle += 1
            if objective <= current:
                if objective < current * (1 - 1e-9):
                    idle = 0
                    if objective < state.objective:
                        state.try_pins(changed)
                current, pinned = objective, changed

    def _try_all(self) -> None:
        for chosen in range(1 << len(self._open)):
            pinned = self._state.free.forced.copy()
            pinned[self._open[[at for at in range(len(self._open)) if chosen >> at & 1]]] = True
            self._state.try_pins(pinned)

    def _neighbour(self, pinned: Mask) -> Mask:
        rng, open_ = self._rng, self._open
        changed = pinned.copy()
        kind = rng.random()
        at = rng.randrange(len(open_))
        kept = pinned[open_]
        if kind < REMOTE and kept.any() and not kept.all():
            changed[rng.choice(open_[kept])] = False
            changed[rng.choice(open_[~kept])] = True
        else:
            changed[open_[at]] ^= True
        if rng.random() < REMOTE:
            near = min(max(at + rng.randint(-NEAR, NEAR), 0), len(open_) - 1)
            changed[open_[near]] ^= True
        return changed
