"""The warm objective by dynamic programming over the disk's lead, beside so many pinned bytes.

Weights are decided in order of use: pinned, or streamed. All that matters of what is decided
already is what the layers have been kept waiting (`delay`), what has been streamed (`read`), by how
much the disk is ahead of the layers (`lead`), and which of the objects that were read had not been
used yet when the disk became free (`held`): they gate the next object.

Why little is enough (times are on the clock of `clock.py`; now is when the next layer could start):
- Once the disk is free, no layer waits until now: every weight due before now is there. So the end
  of a layer since then lies before now by the time of the layers in between, and nothing else.
- A way is at least as good as another if it waited no longer, its disk is ahead by as much, and
  of the objects released since the other's disk became free it holds no others: whatever the other
  goes on with, it can do at the same times.
- Being further ahead than what fits into memory can be read is worth nothing: all that is read
  before now for layers from now on is held at once in the layer before now.

Left out, so that bounds hold for every plan: uploads, the ring, weights that are light, that those
used first together take room from each other before their layer, and second uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem

LIGHT = 5e-4
"""Share of all bytes that are in weights too light to be decided on."""

GRID = 2000
"""Leads at which what is left to pay is known in advance."""

LABELS = 1500
"""Labels kept at most."""

PACES = 24
"""Amounts of delay between which plans are not compared, so that all paces survive."""

PIVOTS = 40
"""Labels that all others are compared with, whatever they hold."""

OBJECTS = 60
"""Latest objects that a label tells apart: bits of an integer."""

HALF_BYTE = 0.5
"""Sums of sizes are whole; room less that is none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Ways to decide on the weights so far: arrays of equal length.

    Attributes:
        delay: ns that layers have waited.
        read: bytes streamed.
        lead: ns from when the disk is free until the next layer can start.
        held: bit i for the i-th latest weight: streamed, and in use after the disk was free.
        parent: label of the weights before.
        streamed: the decision on the latest weight.
    """

    delay: Floats
    read: Floats
    lead: Floats
    held: Ints
    parent: Ints
    streamed: Mask

    def __len__(self) -> int:
        return len(self.delay)

    def take(self, which: Ints | Mask) -> _Labels:
        """Some of them."""
        return _Labels(
            self.delay[which],
            self.read[which],
            self.lead[which],
            self.held[which],
            self.parent[which],
            self.streamed[which],
        )


@dataclass(frozen=True, slots=True)
class Bounded:
    """No plan costs less, ns; and what the cheapest way streams, bytes (None: all cost more)."""

    bound: float
    read: float | None


class Lead:
    """The problem as the program sees it: its heavy weights, by first use, then by size."""

    def __init__(self, problem: Problem, free: Freedom, budget: int) -> None:
        self.problem = problem
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
        self.never: list[bool] = free.never[self.order].tolist()
        self.forced: list[bool] = free.forced[self.order].tolist()
        self.rate = problem.own_disk / 1e9  # bytes a ns
        self.elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
        self.most = float(min(self.room.min(), self.total))  # that can be pinned

    def reading(self, kept: float) -> float:
        """No plan that pins so many bytes or fewer is faster, ns."""
        streamed = max(0.0, self.total - kept)
        lost = self.problem.lost_ns(streamed)
        return max(self.problem.compute_ns, streamed / self.rate) + lost

    def beside(self, kept: float) -> Beside:
        """What is left to streaming beside so many pinned bytes."""
        return Beside(self, self.room - kept)


class Beside:
    """Streaming in the room that pinned bytes leave."""

    def __init__(self, lead: Lead, room: Floats) -> None:
        self._all, self._room = lead, room
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
        self._start = max(0.0, min(float(elapsed[start]), top))

    @property
    def unstreamable(self) -> float:
        """Bytes of weights that must be pinned, because their layers have no room for them."""
        lead = self._all
        return sum(size for at, size in enumerate(lead.size) if not self._streams(at))

    # --- what is left to pay ---------------------------------------------------------------

    def rest(self, price: float) -> list[Floats]:
        """For each weight, by lead: the least delay from there on, less `price` a streamed byte.

        Without regard to which objects are held, but for the one that a layer uses.

        Returns:
            arrays of GRID leads, `step` apart; the last one after all weights.
        """
        lead = self._all
        grid = np.arange(GRID) * self._step
        values = [np.zeros(GRID)]
        for at in range(len(lead.size) - 1, -1, -1):
            after, best = values[-1], np.full(GRID, np.inf)
            if not lead.never[at]:
                best = after[self._cell(self._go_on(at, grid, 0.0))]
            if self._streams(at):
                begin, read = np.minimum(grid, self._own_gate[at]), lead.size[at] / lead.rate
                left = self._go_on(at, np.maximum(begin - read, 0.0), lead.size[at])
                pay = np.maximum(read - begin, 0.0) - price * lead.size[at]
                best = np.minimum(best, pay + after[self._cell(left)])
            values.append(best)
        return values[::-1]

    def quick_bound(self, most: float, price: float) -> float:
        """No plan that pins at most `most` bytes, in this room, costs less, ns."""
        least = float(self.rest(price)[0][self._cell(np.array([self._start]))][0])
        return self._offset(most, price) + least

    def _offset(self, most: float, price: float) -> float:
        """What every way costs: the layers, and `price` for each byte that must be streamed."""
        needed = max(0.0, self._all.total - most - self._all.light)
        lost = self._all.problem.lost_ns(1.0)
        return self._all.problem.compute_ns + (price + lost) * needed

    def _cell(self, lead: Floats) -> Ints:
        """The next lead of the grid, which costs no more."""
        cell = np.ceil(lead / self._step - 1e-9).astype(np.int64)
        return np.minimum(cell, GRID - 1)

    def _streams(self, at: int) -> bool:
        lead = self._all
        fits = lead.size[at] <= self._room[lead.first[at]] + HALF_BYTE
        return not lead.forced[at] and bool(fits)

    def _go_on(self, at: int, ahead: Floats, used: Floats | float) -> Floats:
        """The lead at the next weight's layer, where memory lets the disk be so far ahead.

        Args:
            at: weight decided last.
            ahead: lead at its layer.
            used: bytes of streamed weights that its layer uses.
        """
        lead = self._all
        layer = lead.first[at]
        after = lead.first[at + 1] if at + 1 < len(lead.first) else layer
        if after == layer:
            return ahead
        beside, between = self._caps[at]
        ahead = ahead + (lead.elapsed[after] - lead.elapsed[layer])
        capped = np.minimum(np.minimum(ahead, beside - used / lead.rate), between)
        return np.maximum(capped, 0.0)

    # --- labels ----------------------------------------------------------------------------

    def bound(self, most: float, price: float, ceiling: float) -> Bounded:
        """No plan that pins at most `most` bytes, in this room, costs less, ns.

        Args:
            most: bytes; what is beyond them has to be streamed.
            price: ns a byte by which the program is paid for streaming; every price bounds.
            ceiling: a bound that is enough.
        """
        rest = self.rest(price)
        offset = self._offset(most, price)

        def select(at: int, labels: _Labels) -> _Labels:
            cost = labels.delay - price * labels.read
            hopeful = cost + rest[at + 1][self._cell(labels.lead)] < ceiling - offset
            return self._merge(at, labels.take(hopeful), price)

        history = self._run(select)
        if history is None:
            return Bounded(ceiling, None)
        cost = history[-1].delay - price * history[-1].read
        cheapest = int(cost.argmin())
        return Bounded(
            min(ceiling, offset + float(cost[cheapest])), float(history[-1].read[cheapest])
        )

    def plans(self, kept: float, ceiling: float) -> list[Mask]:
        """Some W of at most `kept` bytes for which plans, in this room, cost less than `ceiling`.

        A beam: the most promising labels of every pace. Light weights are pinned.
        """
        lead = self._all
        price = 1 / lead.rate  # what is lost then is time in which the disk stands still
        rest = self.rest(price)
        needed = lead.total - kept
        allowed = ceiling - lead.problem.compute_ns - lead.problem.lost_ns(needed)
        if allowed <= 0:
            return []

        def select(at: int, labels: _Labels) -> _Labels:
            left = rest[at + 1][self._cell(labels.lead)] + price * (needed - labels.read)
            expected = labels.delay + np.maximum(left, 0.0)
            hopeful = np.flatnonzero(expected < allowed)
            labels, expected = labels.take(hopeful), expected[hopeful]
            pace = np.floor(labels.delay / allowed * PACES).astype(np.int64)
            kept = _undominated(labels, labels.delay - price * labels.read, pace)
            labels, expected, pace = labels.take(kept), expected[kept], pace[kept]
            if len(labels) <= LABELS:
                return labels
            by_pace = np.lexsort((expected, pace))
            opens = np.flatnonzero(np.diff(pace[by_pace], prepend=-1))
            rank = np.arange(len(by_pace)) - np.repeat(opens, np.diff(opens, append=len(by_pace)))
            return labels.take(by_pace[np.argsort(rank, kind="stable")[:LABELS]])

        history = self._run(select)
        if history is None:
            return []
        ends = np.flatnonzero(history[-1].read >= needed - HALF_BYTE)
        best = ends[np.argsort(history[-1].delay[ends], kind="stable")[:3]]
        return [self._pinned(history, int(end)) for end in best]

    def _pinned(self, history: list[_Labels], label: int) -> Mask:
        pinned = self._all.pinnable.copy()
        for at in range(len(history) - 1, -1, -1):
            if history[at].streamed[label]:
                pinned[self._all.order[at]] = False
            label = int(history[at].parent[label])
        return pinned

    def _run(self, select: Callable[[int, _Labels], _Labels]) -> list[_Labels] | None:
        """Labels after each weight; None where none is left."""
        none = np.zeros(1)
        labels = _Labels(
            none, none, np.array([self._start]), np.zeros(1, np.int64), np.zeros(1, np.int64),
            np.zeros(1, dtype=bool),
        )  # fmt: skip
        history: list[_Labels] = []
        for at in range(len(self._all.size)):
            labels = select(at, self._decide(at, labels))
            if not len(labels):
                return None
            history.append(labels)
        return history

    def _decide(self, at: int, labels: _Labels) -> _Labels:
        """Every label, with weight `at` pinned and with it streamed, when its layer has run."""
        lead = self._all
        every = np.arange(len(labels))
        together = sum(
            1 for other in lead.first[max(0, at - OBJECTS) : at] if other == lead.first[at]
        )
        beside = self._held_by_latest(at, labels, together)
        parts, used = [labels.take(every[:0])], [np.zeros(0)]
        if not lead.never[at]:
            parts.append(
                replace(
                    labels, held=labels.held << 1, parent=every, streamed=np.zeros_like(every, bool)
                )
            )
            used.append(beside)
        if self._streams(at):
            fits = np.flatnonzero(beside + lead.size[at] <= self._room[lead.first[at]] + HALF_BYTE)
            begin = np.minimum(labels.lead, self._gate(at, labels, together))
            read = lead.size[at] / lead.rate
            streamed = _Labels(
                labels.delay + np.maximum(read - begin, 0.0),
                labels.read + lead.size[at],
                np.maximum(begin - read, 0.0),
                labels.held << 1 | 1,
                every,
                np.ones_like(every, bool),
            )
            parts.append(streamed.take(fits))
            used.append(beside[fits] + lead.size[at])
        merged = _joined(parts)
        ahead = self._go_on(at, merged.lead, np.concatenate(used))
        return replace(merged, lead=ahead, held=merged.held & self._in_use_since(at + 1, ahead))

    def _held_by_latest(self, at: int, labels: _Labels, count: int) -> Floats:
        """Bytes of the latest `count` weights before `at` that are streamed."""
        held = np.zeros(len(labels))
        for back in range(count):
            held += np.where(labels.held >> back & 1, self._all.size[at - 1 - back], 0.0)
        return held

    def _gate(self, at: int, labels: _Labels, together: int) -> Floats:
        """Time from when there is room for weight `at` until now; infinite if there always was.

        From the latest layer back: room for all used since then, and this one.
        """
        lead = self._all
        gate, held = np.full(len(labels), np.inf), np.zeros(len(labels))
        now, back = lead.elapsed[lead.first[at]], together
        furthest = labels.lead.max()
        for layer in range(lead.first[at] - 1, -1, -1):
            since = now - lead.elapsed[layer + 1]
            if since >= furthest:
                break
            while back < min(at, OBJECTS) and lead.first[at - 1 - back] >= layer:
                held += np.where(labels.held >> back & 1, lead.size[at - 1 - back], 0.0)
                back += 1
            full = np.isinf(gate) & (held + lead.size[at] > self._room[layer] + HALF_BYTE)
            gate[full] = since
        return gate

    def _released(self, at: int) -> Floats:
        """Time since the latest weights before `at` were used, until its layer; the latest first."""
        lead = self._all
        now = lead.elapsed[lead.first[min(at, len(lead.first) - 1)]]
        latest = np.array(lead.first[max(0, at - OBJECTS) : at][::-1], dtype=np.int64)
        return now - lead.elapsed[latest + 1]

    def _in_use_since(self, at: int, ahead: Floats) -> Ints:
        """Bits of the weights before `at` that were used after the disk was free."""
        count = np.searchsorted(self._released(at), ahead, side="left")
        bits: Ints = (np.int64(1) << count.astype(np.int64)) - 1
        return bits

    def _merge(self, at: int, labels: _Labels, price: float) -> _Labels:
        """Labels that are as good as all of these together: few enough, each better in one way.

        Where there are too many, objects held longest are taken for released, then leads that are
        close for the same.
        """
        labels = self._best(at, labels, price)
        while len(labels) > LABELS and labels.held.any():
            bits = int(labels.held.max()).bit_length() - 1
            fewer = labels.held & np.int64((1 << bits) - 1)
            labels = self._best(at, replace(labels, held=fewer), price)
        if len(labels) <= LABELS:
            return labels
        # Nothing is held, so those with more lead cost more: the last of a group is its cheapest.
        labels = labels.take(np.argsort(-labels.lead, kind="stable"))
        ends = np.linspace(0, len(labels), LABELS + 1).astype(np.int64)
        return replace(labels.take(ends[1:] - 1), lead=labels.lead[ends[:-1]])

    def _best(self, at: int, labels: _Labels, price: float) -> _Labels:
        """Without those that are no better than another one, as far as that is found quickly."""
        if not len(labels):
            return labels
        cost = labels.delay - price * labels.read
        kept = _undominated(labels, cost, np.zeros(len(labels), dtype=np.int64))
        labels, cost = labels.take(kept), cost[kept]
        order = np.argsort(cost - labels.lead / 2, kind="stable")
        labels, cost = labels.take(order), cost[order]
        since = self._in_use_since(at + 1, labels.lead)
        for pivot in range(PIVOTS):
            if pivot + 1 >= len(labels):
                break
            worse = (cost >= cost[pivot]) & (labels.lead <= labels.lead[pivot])
            worse &= labels.held[pivot] & since & ~labels.held == 0
            worse[: pivot + 1] = False
            if worse.any():
                labels, cost, since = labels.take(~worse), cost[~worse], since[~worse]
        return labels


def _undominated(labels: _Labels, cost: Floats, group: Ints) -> Ints:
    """Of those of a group that hold the same: which are cheaper than all with as much lead."""
    order = np.lexsort((cost, -labels.lead, labels.held, group))
    if not len(order):
        return order
    held, group, cost = labels.held[order], group[order], cost[order]
    opens = np.concatenate(([True], (np.diff(held) != 0) | (np.diff(group) != 0)))
    # One running minimum for all: each group far below the one before.
    apart = np.cumsum(opens) * (float(cost.max() - cost.min()) + 1.0)
    least = np.minimum.accumulate(cost - apart) + apart
    before = np.concatenate(([np.inf], least[:-1]))
    before[opens] = np.inf
    better: Ints = order[cost < before - 1e-6]
    return better


def _joined(parts: list[_Labels]) -> _Labels:
    return _Labels(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("delay", "read", "lead", "held", "parent", "streamed")
        )
    )
