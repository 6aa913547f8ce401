"""Streaming in the room that pinned bytes leave: how far ahead the disk may be, and its cost.

For warm runs. Times are on the clock of `clock.py`; the lead is the time from when the disk is free
until the next layer can start. Being further ahead than what fits into memory can be read is worth
nothing: all that is read before a layer starts, for layers from that one on, is held at once in the
layer before it.

Left out here and in `ways`, so that bounds hold for every plan: uploads, the ring, light weights,
second uses, and that weights first used together take room from each other before their layer.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.problem import Floats, Ints, Problem

LIGHT = 5e-4
"""Share of all bytes that are in weights too light to be decided on."""

GRID = 2000
"""Leads at which what is left to pay is known in advance."""

GIANT, GIANTS = 0.05, 3
"""Share of all bytes from which a weight is a giant; so many of them at most."""

HALF_BYTE = 0.5
"""Sums of sizes are whole; room less that is none."""


def giants(problem: Problem, free: Freedom) -> list[int]:
    """The largest weights that may be pinned or not, where they are a good part of all bytes."""
    largest = np.argsort(-problem.size, kind="stable")[:GIANTS]
    open_ = (problem.size >= GIANT * problem.size.sum()) & ~free.forced & ~free.never
    found: list[int] = largest[open_[largest]].tolist()
    return found


class Lead:
    """The problem as the program sees it: its heavy weights, by first use, then by size.

    Those of one layer are read smallest first: it finds room the earliest.

    Attributes:
        order: heavy weights; all lists follow it.
        size, first: bytes, and layer of first use.
        total, light: bytes of all weights, and of those that are not heavy.
        pinnable: (n,) weights that need not be streamed.
        room: (N,) bytes for weights at each layer.
        rate: bytes a ns of the disk.
        elapsed: (N + 1,) ns of the layers before each one.
        giants: as the function says.
        most: bytes that can be pinned.
    """

    def __init__(self, problem: Problem, free: Freedom, budget: int) -> None:
        self.problem, self._free = problem, free
        by_size = np.argsort(problem.size, kind="stable")
        light = np.cumsum(problem.size[by_size]) <= LIGHT * problem.size.sum()
        heavy = np.ones(len(problem.size), dtype=bool)
        heavy[by_size[light]] = False
        order = np.lexsort((problem.size, problem.first))
        self.order: Ints = order[heavy[order]]
        self.total = float(problem.size.sum())
        self.light = float(problem.size[~heavy].sum())
        self.pinnable = ~free.never
        self.room = (budget - problem.staging.bytes - problem.activation).astype(np.float64)
        self.size: list[float] = problem.size[self.order].astype(np.float64).tolist()
        self.first: list[int] = problem.first[self.order].tolist()
        self.rate = problem.own_disk / 1e9  # bytes a ns
        self.elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
        self.giants = giants(problem, free)
        self.most = float(min(self.room.min(), self.total))

    def reading(self, kept: float) -> float:
        """No plan that pins so many bytes or fewer is faster, ns."""
        streamed = max(0.0, self.total - kept)
        lost = self.problem.lost_ns(streamed)
        return max(self.problem.compute_ns, streamed / self.rate) + lost

    def beside(self, kept: float, pinned: Collection[int] | None = None) -> Beside:
        """What is left to streaming beside so many pinned bytes.

        Args:
            kept: bytes.
            pinned: giants that are pinned, where that is decided; all others are streamed.
        """
        never, forced = self._free.never, self._free.forced
        if pinned is not None:
            never, forced = never.copy(), forced.copy()
            for giant in self.giants:
                never[giant], forced[giant] = giant not in pinned, giant in pinned
        return Beside(
            self, self.room - kept, never[self.order].tolist(), forced[self.order].tolist()
        )


class Beside:
    """Streaming in the room that pinned bytes leave.

    Attributes:
        lead: the problem.
        room: (N,) bytes.
        never: which of its weights must be streamed.
        start: lead at the first heavy weight's layer.
    """

    def __init__(self, lead: Lead, room: Floats, never: list[bool], forced: list[bool]) -> None:
        self.lead, self.room = lead, room
        self.never, self._forced = never, forced
        self._caps: list[tuple[float, float]] = []
        self._own_gate: list[float] = []
        elapsed, first = lead.elapsed, lead.first
        tops = room / lead.rate - elapsed[1:]  # lead at the end of each layer, less its time
        for at, layer in enumerate(first):
            after = first[at + 1] if at + 1 < len(first) else layer
            between = float(tops[layer + 1 : after].min(initial=np.inf))
            self._caps.append((float(tops[layer]) + elapsed[after], between + elapsed[after]))
            tight = np.flatnonzero(room[:layer] + HALF_BYTE < lead.size[at])
            gate = elapsed[layer] - elapsed[tight[-1] + 1] if len(tight) else np.inf
            self._own_gate.append(float(gate))
        self._step = max(1.0, float(room.max()) / lead.rate / (GRID - 1))
        start = first[0] if first else 0
        top = float(tops[:start].min(initial=np.inf)) + elapsed[start]
        self.start = max(0.0, min(float(elapsed[start]), top))

    @property
    def unstreamable(self) -> float:
        """Bytes of weights that must be pinned, because their layers have no room for them."""
        lead = self.lead
        return sum(size for at, size in enumerate(lead.size) if not self.streams(at))

    # --- what is left to pay ---------------------------------------------------------------

    def rest(self, price: float) -> list[Floats]:
        """For each weight, by lead: the least delay from there on, less `price` a streamed byte.

        Without regard to which objects are held, but for the one that a layer uses.

        Returns:
            arrays of GRID leads, `step` apart; the last one after all weights.
        """
        lead = self.lead
        grid = np.linspace(0.0, (GRID - 1) * self._step, GRID)
        values: list[Floats] = [np.zeros(GRID)]
        for at in range(len(lead.size) - 1, -1, -1):
            after, best = values[-1], np.full(GRID, np.inf)
            if not self.never[at]:
                best = after[self.cell(self.go_on(at, grid, 0.0))]
            if self.streams(at):
                read = lead.size[at] / lead.rate
                begin: Floats = np.minimum(grid, self._own_gate[at])
                ahead: Floats = np.maximum(begin - read, 0.0)
                left = self.go_on(at, ahead, lead.size[at])
                pay = np.maximum(read - begin, 0.0) - price * lead.size[at]
                best = np.minimum(best, pay + after[self.cell(left)])
            values.append(best)
        return values[::-1]

    def quick_bound(self, most: float, price: float) -> float:
        """No plan that pins at most `most` bytes, in this room, costs less, ns."""
        least = float(self.rest(price)[0][self.cell(np.array([self.start]))][0])
        return self.offset(most, price) + least

    def offset(self, most: float, price: float) -> float:
        """What every way costs: the layers, and `price` for each byte that must be streamed."""
        needed = max(0.0, self.lead.total - most - self.lead.light)
        lost = self.lead.problem.lost_ns(1.0)
        return self.lead.problem.compute_ns + (price + lost) * needed

    def cell(self, lead: Floats) -> Ints:
        """The next lead of the grid, which costs no more."""
        cell = np.ceil(lead / self._step - 1e-9).astype(np.int64)
        return np.minimum(cell, GRID - 1)

    def streams(self, at: int) -> bool:
        """Whether weight `at` may be streamed, and its layer has room for it."""
        lead = self.lead
        fits = lead.size[at] <= self.room[lead.first[at]] + HALF_BYTE
        return not self._forced[at] and bool(fits)

    def go_on(self, at: int, ahead: Floats, used: Floats | float) -> Floats:
        """The lead at the next weight's layer, where memory lets the disk be so far ahead.

        Args:
            at: weight decided last.
            ahead: lead at its layer.
            used: bytes of streamed weights that its layer uses.
        """
        lead = self.lead
        layer = lead.first[at]
        after = lead.first[at + 1] if at + 1 < len(lead.first) else layer
        if after == layer:
            return ahead
        beside, between = self._caps[at]
        ahead = ahead + (lead.elapsed[after] - lead.elapsed[layer])
        capped = np.minimum(np.minimum(ahead, beside - used / lead.rate), between)
        return np.maximum(capped, 0.0)
