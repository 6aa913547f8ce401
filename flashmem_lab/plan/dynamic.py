"""The memory objective by dynamic programming: whole objects, and no budget but through `floor`.

The lane moves streamed weights in order of use. From the last weight to the first, all that
matters of what is decided already is when the lane must be done: the start of the next weight. A
later start is better for all weights before, so of the decisions with the same cost only the one
with the latest start is kept, and of those with the same start the cheapest (labels, as in
shortest paths with two criteria). A weight is pinned; or moves so that it ends in time; or some of
its bytes are late, which is possible only if nothing after it begins before its use.

What is left out: pinned weights take no room from streamed ones. Where W is given, or nothing is
worth pinning, the result is the best there is, to within `LATES` and `LABELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.problem import Floats, Ints, Problem
from flashmem_lab.plan.score import memory_cost, unhidden

LABELS = 4000
"""Labels kept at most; more of them are merged, each group as good as the best of its members."""

LATES = 600
"""Numbers of late bytes tried for a weight, each about 2 % more than the one before."""

TOUCH = 1e-3
"""Positions this close are the same, bytes: they are sums over some thousand terms."""

PINNED = -1
"""A decision: in W. Others are the step of the object."""


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What the program says.

    Attributes:
        schedule: the cheapest; with W open it may hold more than the budget.
        bound: no schedule with every object at `floor` or later costs less, bytes.
    """

    schedule: Schedule
    bound: float


def least_waiting(
    problem: Problem,
    free: Freedom,
    floor: Ints,
    price: float,
    ceiling: float,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Decided | None:
    """The schedule of the least memory objective; None if none costs less than `ceiling`.

    Late bytes are tried on a grid, 2 % apart: objects that have some are then moved to the best
    layer for them, and the bound stays that of the grid.

    Args:
        problem: the model on a device.
        free: which weights must be pinned, and which must not.
        floor: (n,) step before which no weight's object is made.
        price: lambda.
        ceiling: cost of a schedule that is known.
        stop: asked between weights; ends it, with None.
    """
    stage = _Stage(problem, free, floor, price)
    rest = np.concatenate(([0.0], np.cumsum(stage.alone())))
    labels = _Labels(np.array([np.inf]), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int64))
    history: list[_Labels] = []
    for at in range(len(problem.weights) - 1, -1, -1):
        if stop():
            return None
        before = stage.deadline[at - 1] if at else 0.0
        labels = stage.before(at, labels, ceiling - rest[at]).best(ceiling - rest[at], before)
        if not len(labels.cost):
            return None
        history.append(labels)
    cheapest = int(labels.cost.argmin())
    pinned = np.zeros(len(problem.weights), dtype=bool)
    load_at = np.zeros(len(problem.weights), dtype=np.int64)
    label = cheapest
    for at, decided in enumerate(reversed(history)):
        step = int(decided.step[label])
        pinned[at] = step == PINNED
        load_at[at] = max(step, 0)
        label = int(decided.parent[label])
    schedule = _off_the_grid(problem, free, floor, price, Schedule(pinned, load_at))
    return Decided(schedule, float(labels.cost[cheapest]))


def _off_the_grid(
    problem: Problem, free: Freedom, floor: Ints, price: float, schedule: Schedule
) -> Schedule:
    """Moves objects with late bytes, layer by layer, as long as that costs less."""
    cost = memory_cost(problem, schedule, price)
    for at in np.flatnonzero(unhidden(problem, schedule)).tolist():
        for toward in (-1, 1):
            while floor[at] <= (step := schedule.load_at[at] + toward) <= free.latest[at]:
                load_at = schedule.load_at.copy()
                load_at[at] = step
                moved = Schedule(schedule.pinned, load_at)
                if (less := memory_cost(problem, moved, price)) >= cost:
                    break
                schedule, cost = moved, less
    return schedule


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Ways to decide on the weights from some one on.

    Attributes:
        start: when the lane must be done with all before, bytes that it could have moved.
        cost: of these weights.
        parent: label of the weights after.
        step: decision on the first of these weights.
    """

    start: Floats
    cost: Floats
    parent: Ints
    step: Ints

    def best(self, ceiling: float, deadline: float) -> _Labels:
        """Those that may lead to a cost below `ceiling`, each better than all others in one way.

        Args:
            ceiling: what may be spent on these weights.
            deadline: of the weight before; how much later the lane must be done is all one.
        """
        start = np.where(self.start >= deadline - TOUCH, deadline, self.start)
        order = np.lexsort((self.cost, -start))
        order = order[self.cost[order] <= ceiling]
        cost = self.cost[order]
        order = order[cost < np.concatenate(([np.inf], np.minimum.accumulate(cost)[:-1]))]
        start, cost = start[order], self.cost[order]
        if len(order) > LABELS:
            group = np.searchsorted(np.linspace(cost[0], cost[-1], LABELS + 1)[::-1], cost)
            opens = np.flatnonzero(np.diff(group, prepend=-1))
            closes = np.append(opens[1:], len(group)) - 1
            order, start, cost = order[opens], start[opens], cost[closes]
        return _Labels(start, cost, self.parent[order], self.step[order])


class _Stage:
    """What one weight adds to every label."""

    def __init__(self, problem: Problem, free: Freedom, floor: Ints, price: float) -> None:
        # Bytes that the lane could have moved before each layer: the axis of all positions.
        self._opens = np.concatenate(([0.0], np.cumsum(problem.capacity)))
        self.deadline: list[float] = self._opens[problem.first].tolist()
        self._problem, self._free, self._floor, self._price = problem, free, floor, price
        self._wait = (1 - price) / len(problem.layers)

    def alone(self) -> Floats:
        """(n,) what each weight costs at least, with the lane to itself."""
        problem, free = self._problem, self._free
        least = np.where(free.never, np.inf, self._price * problem.size)
        for at in np.flatnonzero(~free.forced).tolist():
            size, first = float(problem.size[at]), int(problem.first[at])
            steps = np.arange(self._floor[at], free.latest[at] + 1)
            late = np.maximum(0.0, self._opens[steps] + size - self.deadline[at])
            cost = self._wait * size * (first - steps) + late
            least[at] = min(least[at], float(cost.min()))
        return least

    def before(self, at: int, labels: _Labels, ceiling: float) -> _Labels:
        """Labels of the weights from `at` on, from those of the weights after it."""
        size, free = float(self._problem.size[at]), self._free
        every = np.arange(len(labels.cost))
        parts: list[tuple[Floats, Floats, Ints, Ints]] = []
        if not free.never[at]:
            step = np.full(len(every), PINNED)
            parts.append((labels.start, labels.cost + self._price * size, every, step))
        if not free.forced[at]:
            start = np.minimum(labels.start, self.deadline[at]) - size
            fits = start >= self._opens[self._floor[at]] - TOUCH
            parts.append(self._streamed(at, start[fits], labels.cost[fits], every[fits]))
            parts.append(self._late(at, labels, ceiling))
        start, cost, parent, step = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _Labels(start, cost, parent, step)

    def _streamed(
        self, at: int, start: Floats, cost: Floats, parent: Ints
    ) -> tuple[Floats, Floats, Ints, Ints]:
        """Made in the layer in which its first byte moves, and no later than it may be."""
        step = np.searchsorted(self._opens, start + TOUCH, side="right") - 1
        step = np.clip(step, self._floor[at], self._free.latest[at])
        waits = self._wait * float(self._problem.size[at]) * (self._problem.first[at] - step)
        return start, cost + waits, parent, step

    def _late(self, at: int, labels: _Labels, ceiling: float) -> tuple[Floats, Floats, Ints, Ints]:
        """Some bytes move in a stall before the use; between two numbers of them, the best of both.

        What comes after begins no earlier than that use; the cheapest such label is the only one.
        """
        size, deadline = float(self._problem.size[at]), self.deadline[at]
        idle = np.flatnonzero(labels.start >= deadline)
        if not len(idle):
            return _nothing()
        parent = idle[labels.cost[idle].argmin()]
        least = max(0.0, self._opens[self._floor[at]] - (deadline - size))
        most = min(size, ceiling - float(labels.cost[parent]))
        if most < least:
            return _nothing()
        late = np.append(least, least + np.geomspace(1, max(2.0, most - least), LATES))
        late = np.minimum(late, most)
        start = deadline - size + np.append(late[1:], most)
        parents = np.full(len(late), parent)
        return self._streamed(at, start, labels.cost[parent] + late, parents)


def _nothing() -> tuple[Floats, Floats, Ints, Ints]:
    none: NDArray[np.float64] = np.zeros(0)
    return none, none, np.zeros(0, np.int64), np.zeros(0, np.int64)
