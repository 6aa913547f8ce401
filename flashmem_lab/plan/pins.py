"""The mixed-integer program of W, for any solver of OR-Tools' linear interface.

Bytes are a fluid here, in order of use; what is known of whole objects is in the cuts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem
from flashmem_lab.plan.room import room_for_bytes

MEGA = 1e6
"""Bytes in MB and ns in ms keep the solver's numbers near 1."""

NEIGHBOURS = 8
"""Weights after each layer for which the program knows that they may not fit beside it."""

WHOLE = 500
"""Decisions at most on whether an object has begun; with more the solver would not end."""

AHEAD = 4
"""Objects after each layer on which it decides,"""

LARGE, LARGEST = 0.1, 0.2
"""of those at least this share of the largest one: for warm, and for memory."""

BYTE = 1e-6
"""One byte in MB: sums of sizes this close are the same."""


class PinProgram:
    """Variables and constraints that all objectives share, in MB.

    y[w]: weight w is pinned.
    streamed[k]: bytes of the first k weights, in order of use, that are not.
    """

    def __init__(
        self, solver: Any, problem: Problem, free: Freedom, budget: int, *, relaxed: bool
    ) -> None:
        self.solver, self.problem, self.forced = solver, problem, free.forced
        self.relaxed = relaxed
        self.offset = 0.0
        self.least = 0.0  # bytes that are pinned
        self.size: list[float] = (problem.size / MEGA).tolist()
        self.pinned = [
            solver.NumVar(float(must), float(not never), "")
            if relaxed
            else solver.IntVar(float(must), float(not never), "")
            for must, never in zip(free.forced.tolist(), free.never.tolist(), strict=True)
        ]
        self.total = sum(self.size)
        self.kept = solver.NumVar(0, self.total, "")
        solver.Add(
            self.kept == solver.Sum([s * y for s, y in zip(self.size, self.pinned, strict=True)])
        )
        self.streamed: list[Any] = [0.0]
        for size, pinned in zip(self.size, self.pinned, strict=True):
            through = solver.NumVar(0, self.total, "")
            solver.Add(through == self.streamed[-1] + size * (1 - pinned))
            self.streamed.append(through)
        steps = np.arange(len(problem.layers))
        self.begun: list[int] = np.searchsorted(problem.first, steps, side="right").tolist()
        ends = np.append(np.flatnonzero(np.diff(problem.first)) + 1, len(problem.first))
        group = np.searchsorted(ends, np.arange(len(problem.first)), side="right")
        # Of the weights first used together.
        self.group_end: list[int] = ends[group].tolist()
        self.group_start: list[int] = np.append(0, ends)[group].tolist()
        room = (budget - problem.staging.bytes - problem.activation) / MEGA
        self.room: list[float] = room.tolist()
        self.begun_at_most = _begun_at_most(problem, free, budget)
        self.used: list[list[int]] = [[] for _ in problem.layers]
        spans = zip(problem.first.tolist(), problem.last.tolist(), strict=True)
        for at, (first, last) in enumerate(spans):
            for layer in range(first, last + 1):
                self.used[layer].append(at)

    def pin_between(self, least: float, most: float) -> None:
        """Pins so many bytes; leaving the rest of the budget to streaming."""
        self.least = max(0.0, least / MEGA)
        self.kept.SetBounds(self.least, min(self.total, most / MEGA))

    def choice(self) -> Floats:
        """(n,) the values of y."""
        return np.array([pinned.solution_value() for pinned in self.pinned])

    def in_use(self, layer: int) -> Any:
        """Bytes of streamed weights between their first and last use at `layer`."""
        return self.solver.Sum([self.size[at] * (1 - self.pinned[at]) for at in self.used[layer]])

    # --- warm ------------------------------------------------------------------------------

    def warm(self, *, whole: bool) -> None:
        """The lanes as fluids: the disk reads streamed bytes in order of use while layers run.

        If `whole`, it is decided which of the next objects are there when a layer ends.
        """
        solver, problem = self.solver, self.problem
        rate = problem.own_disk / 1e9  # on the clock of the layers; MB a ms is bytes a ns
        length = (problem.duration_ns / MEGA).tolist()
        near = self._near(LARGE) if whole else [[] for _ in length]
        stalls, before = [], 0.0
        for layer, duration in enumerate(length):
            # stall: the layer waits for weights. ready, done: bytes read when it starts and ends.
            stall = solver.NumVar(0, solver.infinity(), "")
            ready = solver.NumVar(0, self.total, "")
            done = solver.NumVar(0, self.total, "")
            due = self.streamed[self.begun[layer]]
            solver.Add(ready <= before + rate * stall)
            solver.Add(ready >= before)
            solver.Add(ready >= due)
            solver.Add(done <= ready + rate * duration)
            solver.Add(done >= ready)
            # Residency: what was read and not freed fits beside W, activations and staging.
            solver.Add(done <= due + self.room[layer] - self.kept - self.in_use(layer))
            self._whole_objects(layer, done)
            for at in near[layer]:
                self._begun(layer, at, done)
            stalls.append(stall)
            before = done
        # Reading slows layers: what is lost to each streamed byte, wherever it is read.
        solver.Minimize(solver.Sum(stalls) + problem.lost_ns(1.0) * self.streamed[-1])
        self.offset = sum(length)

    def _whole_objects(self, layer: int, done: Any) -> None:
        """An object has room as a whole or not at all.

        If a streamed weight does not fit beside the largest one in use at `layer`, nothing of it
        is read by the end of the layer, nor of what is used after it. The same is true of a weight
        that does not fit beside all that is used before it, which is held whether streamed or not.
        """
        count, others = self.begun_at_most[layer]
        if count < len(self.size):
            fitting = [self.size[at] * (1 - self.pinned[at]) for at in others]
            self.solver.Add(done <= self.streamed[count] + self.solver.Sum(fitting))
        room, used = self.room[layer] - self.least, self.used[layer]
        held = max(used, key=self.size.__getitem__, default=None)
        beside = 0.0 if held is None else self.size[held]
        found = 0
        for at in range(self.begun[layer], len(self.size)):
            if self.size[at] + beside <= room + BYTE:
                continue
            end = self.group_end[at]
            limit = self.streamed[end] - self.size[at] * (1 - self.pinned[at])
            slack = room * self.pinned[at]
            if held is not None and self.size[at] <= room:
                slack = slack + room * self.pinned[held]
            self.solver.Add(done <= limit + slack)
            found += 1
            if found == NEIGHBOURS:
                break

    def _near(self, share: float) -> list[list[int]]:
        """Objects of that share of the largest, or more, after each layer."""
        large = [at for at, size in enumerate(self.size) if size >= share * max(self.size)]
        starts = np.searchsorted(large, self.begun).tolist()
        ahead = min(AHEAD, WHOLE // len(starts))
        return [large[start : start + ahead] for start in starts]

    def _begun(self, layer: int, at: int, done: Any) -> None:
        """begun: the object of a weight may be there by the end of the layer; then all of it is.

        So are those of all weights used before it.
        """
        begun = self.solver.NumVar(0, 1, "") if self.relaxed else self.solver.IntVar(0, 1, "")
        own = self.size[at] * (1 - self.pinned[at])
        end, start = self.group_end[at], self.group_start[at]
        room = self.room[layer] - self.least
        self.solver.Add(done <= self.streamed[end] - own + room * begun)
        held = self.kept + self.in_use(layer) + own
        held = held + self.streamed[start] - self.streamed[self.begun[layer]]
        between = sum(self.size[self.begun[layer] : start]) + self.size[at]
        self.solver.Add(held <= self.room[layer] + between * (1 - begun))

    # --- memory ----------------------------------------------------------------------------

    def memory(self, price: float) -> None:
        """The lane moves C_l bytes while layer l runs, and in a stall what nothing hides."""
        solver, problem = self.solver, self.problem
        capacity = (problem.capacity / MEGA).tolist()
        steps = len(problem.layers)
        surcharge = _whole_waits(problem, self.forced) * (1 - price) / steps / MEGA
        near = [[] for _ in capacity] if self.relaxed else self._near(LARGEST)
        dearest = np.zeros(steps)
        np.maximum.at(dearest, problem.first, surcharge / np.maximum(self.size, 1e-9))
        costs, before = [price * self.kept], 0.0
        for layer in range(steps):
            # stall: bytes that no layer hid. ahead: bytes that lie ready when the layer ends.
            stall = solver.NumVar(0, self.total, "")
            ahead = solver.NumVar(0, self.total, "")
            begun = self.begun[layer - 1] if layer else 0
            due = self.streamed[self.begun[layer]] - self.streamed[begun]
            solver.Add(before + stall >= due)
            solver.Add(ahead <= before + stall - due + capacity[layer])
            solver.Add(ahead >= before + stall - due)
            solver.Add(ahead + self.kept + self.in_use(layer) <= self.room[layer])
            done = ahead + self.streamed[self.begun[layer]]
            self._whole_objects(layer, done)
            for at in near[layer]:
                self._begun(layer, at, done)
            costs.append((1 - dearest[layer]) * stall)
            costs.append((1 - price) / steps * ahead)
            before = ahead
        for at, extra in enumerate(surcharge.tolist()):
            costs.append(extra * (1 - self.pinned[at]))
        solver.Minimize(solver.Sum(costs))


def _begun_at_most(problem: Problem, free: Freedom, budget: int) -> list[tuple[int, list[int]]]:
    """Weights of which something may have moved by the end of each layer.

    (count, others): the first so many in order of use, and of those that are used together next,
    in any order, the ones that fit beside them.
    """
    count, steps = len(problem.weights), len(problem.layers)
    if free.windowed:  # a window may end before others begin
        return [(count, [])] * steps
    size = np.where(free.forced, 0, problem.size)
    through = np.concatenate(([0], np.cumsum(size)))
    ends = np.append(np.flatnonzero(np.diff(problem.first)) + 1, count)  # of those used together
    starts = np.concatenate(([0], ends))
    allowed = room_for_bytes(problem, free.forced, budget)
    whole = np.searchsorted(through[ends], allowed, side="right")
    found: list[tuple[int, list[int]]] = []
    for layer, group in enumerate(whole.tolist()):
        begun = int(np.searchsorted(problem.first, layer, side="right"))
        start = max(int(starts[group]), begun)
        if start >= count:
            found.append((count, []))
            continue
        end = int(ends[np.searchsorted(ends, start, side="right")])
        room = int(allowed[layer] - through[start])
        found.append((start, [at for at in range(start, end) if size[at] <= room]))
    return found


def _whole_waits(problem: Problem, forced: Mask) -> Floats:
    """(n,) byte-steps that a weight's bytes wait at least because its object is made whole.

    Its object is there from the layer of its first byte, though most bytes come later: where the
    lane passes its bytes fastest, the sum over them of the steps since the first came. Bytes that
    move as late as they can (which is what `ahead` counts; moving any earlier costs more) begin
    no earlier than with nothing pinned unasked and all in the lane.
    """
    before = np.concatenate(([0.0], np.cumsum(problem.capacity)))
    steps = np.arange(len(problem.layers) + 1, dtype=np.float64)
    area = np.concatenate(([0.0], np.cumsum(problem.capacity * steps[:-1])))
    earliest = _first_begun(problem, before, forced)
    waits = np.zeros(len(problem.weights))
    for at, (size, first, least) in enumerate(
        zip(problem.size.tolist(), problem.first.tolist(), earliest.tolist(), strict=True)
    ):
        if not first:
            continue
        # A later start in a layer waits for more.
        starts, layer = before[least:first], steps[least:first]
        ends = np.minimum(starts + size, before[first])
        moved = np.interp(ends, before, area) - np.interp(starts, before, area)
        beyond = size - (ends - starts)
        waits[at] = (moved + beyond * first - size * layer).min()
    return np.maximum(waits, 0.0)


def _first_begun(problem: Problem, before: Floats, forced: Mask) -> Ints:
    """(n,) no byte of a weight that moves as late as it can moves in an earlier layer.

    Weights first used together may take any order; each may be the first.
    """
    if not len(forced):
        return problem.first
    size = np.where(forced, 0, problem.size)
    moved = np.cumsum(size)
    ends = np.minimum.accumulate((before[problem.first] - moved)[::-1])[::-1]
    opens = np.diff(problem.first, prepend=-1) > 0  # the first of those that one layer uses
    begins = np.minimum.reduceat(ends + moved - size, np.flatnonzero(opens))
    layer = np.searchsorted(before, begins[np.cumsum(opens) - 1], side="right") - 1
    least: Ints = np.clip(layer, 0, np.maximum(problem.first - 1, 0))
    return least
