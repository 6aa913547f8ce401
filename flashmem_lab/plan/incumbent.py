"""The best schedule so far, what is known of the best there is, and the clock of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from flashmem_lab.plan import greedy
from flashmem_lab.plan.clock import ns_at_least
from flashmem_lab.plan.dynamic import Decided, least_waiting
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Ints, Mask, Problem
from flashmem_lab.plan.room import earliest_loads, least_budget, residency
from flashmem_lab.plan.score import cost, memory_cost, unhidden

Told = Callable[[float, float], None]
"""Called with the best objective and the bound so far, bytes or ns, at every improvement."""


ROUNDING = 1e-10
"""Share taken off bounds that are sums of floats."""


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


@dataclass(slots=True)
class Incumbent:
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
        """Since the search began."""
        return perf_counter() - self.began

    @property
    def left_s(self) -> float:
        """Of the time limit."""
        return max(0.0, self.effort.time_s - self.elapsed_s)

    @property
    def stopped(self) -> bool:
        """Out of time, or told to stop."""
        asked = self.effort.should_stop
        return self.elapsed_s > self.effort.time_s or (asked is not None and asked())

    @property
    def done(self) -> bool:
        """Near enough to the bound, or stopped."""
        return self.near(self.effort.gap) or self.stopped

    def near(self, gap: float) -> bool:
        """Whether that gap is proven."""
        return self.objective - self.bound <= gap * self.objective

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
        """Offers a schedule for this W, if there is one: the best, for warm."""
        schedule = self.schedule_of(pinned)
        if schedule is not None:
            self.offer(schedule, searched=True)

    def settle(self, pinned: Mask) -> None:
        """Offers the best schedule for this W, for memory, with bytes late where that is cheaper.

        The same W under another tier keeps that tier's name.
        """
        if self.optimize is not Objective.MEMORY or self.stopped:
            return
        problem, free, budget = self.problem, self.free, self.budget
        if least_budget(problem, free, pinned)[0] > budget:
            return
        same = self.found_by_search and bool((pinned == self.best.pinned).all())
        tier = (same and self.best.tier) or "soft-capacity"
        fixed = Freedom(pinned, ~pinned, free.earliest, free.latest, free.windowed)
        floor = earliest_loads(problem, free, pinned, budget)
        found = self._least_waiting(fixed, floor)
        if found is not None:
            late = unhidden(problem, found.schedule).sum() >= 1
            self.offer(replace(found.schedule, tier=tier if late else ""), searched=True)

    def choose_and_settle(self) -> None:
        """Chooses W too, as if it took no room from what streams; what is found bounds all plans.

        Often nothing has to be pinned, or little beside the budget, and it is a plan as well.
        """
        problem, free = self.problem, self.free
        floor = free.earliest
        if not free.windowed:  # else a weight of a window may be there before others are
            floor = earliest_loads(problem, free, free.forced, self.budget)
        before = self.objective
        found = self._least_waiting(free, floor)
        if found is None:
            if not self.stopped:
                self.raise_bound(before * (1 - ROUNDING))
            return
        self.raise_bound(min(found.bound, before) * (1 - ROUNDING))
        schedule = found.schedule
        if residency(problem, schedule.pinned, schedule.load_at).max() <= self.budget:
            late = unhidden(problem, schedule).sum() >= 1
            self.offer(replace(schedule, tier="soft-capacity" if late else ""), searched=True)
        else:
            self.try_pins(schedule.pinned)

    def _least_waiting(self, free: Freedom, floor: Ints) -> Decided | None:
        return least_waiting(
            self.problem, free, floor, self.price, self.objective, stop=lambda: self.stopped
        )
