"""Ways to pin and stream, weight by weight: labels in a dynamic program for warm runs.

Weights are decided in order of use. All that matters of what is decided already is how long layers
have waited, what has been streamed, by how much the disk is ahead (`lead`), and which of the
objects that were read had not been used yet when the disk became free: they gate the next object.

Why so little is enough:
- Once the disk is free, no layer waits until now, when the next layer could start: every weight due
  before now is there. So the end of a layer since then lies before now by the time of the layers in
  between, and by nothing else.
- A way is at least as good as another if it waited no longer for as many bytes, its disk is ahead
  by as much, and of the objects released since the other's disk became free it holds no others:
  whatever the other goes on with, it can do at the same times.
- What has been streamed only matters at the end, where it has to be enough. Paid at a price for
  every byte (Lagrange), it joins the waiting in one cost, whose least bounds all plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flashmem_lab.plan.lead import HALF_BYTE, Beside
from flashmem_lab.plan.problem import Floats, Ints, Mask

LABELS, BEAM = 1500, 3000
"""Labels kept at most for bounds and for plans."""

PACES = 250
"""Amounts of streamed bytes between which plans are not compared, so that all paces survive."""

PIVOTS = 40
"""Labels that all others are compared with, whatever they hold."""

OBJECTS = 60
"""Latest objects that a label tells apart: bits of an integer."""


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


class Ways:
    """All ways to stream beside pinned bytes.

    Args:
        beside: the room that these leave.
        stop: asked between weights; ends the program, which then says nothing.
    """

    def __init__(self, beside: Beside, stop: Callable[[], bool] = lambda: False) -> None:
        self._beside, self._lead, self._stop = beside, beside.lead, stop

    def bound(self, most: float, price: float, ceiling: float) -> Bounded:
        """No plan that pins at most `most` bytes, in this room, costs less, ns.

        Args:
            most: bytes; what is beyond them has to be streamed.
            price: ns a byte by which the program is paid for streaming; every price bounds.
            ceiling: a bound that is enough.
        """
        rest = self._beside.rest(price)
        offset = self._beside.offset(most, price)

        def select(at: int, labels: _Labels) -> _Labels:
            cost = labels.delay - price * labels.read
            hopeful = cost + rest[at + 1][self._beside.cell(labels.lead)] < ceiling - offset
            return self._merge(at, labels.take(hopeful), price)

        history = self._run(select)
        if history is None:
            return Bounded(0.0, None)
        if not len(history[-1]):
            return Bounded(ceiling, None)
        cost = history[-1].delay - price * history[-1].read
        cheapest = int(cost.argmin())
        return Bounded(
            min(ceiling, offset + float(cost[cheapest])), float(history[-1].read[cheapest])
        )

    def plans(self, kept: float, price: float, ceiling: float) -> list[Mask]:
        """Some W of at most `kept` bytes for which plans, in this room, cost less than `ceiling`.

        A beam: the most promising labels of every pace. Light weights are pinned.

        Args:
            kept: bytes.
            price: at which `bound` was highest.
            ceiling: ns.
        """
        lead = self._lead
        even = 1 / lead.rate  # what is paid then is time in which the disk stands still
        rests = {one: self._beside.rest(one) for one in (even, price)}
        needed = lead.total - kept
        allowed = ceiling - lead.problem.compute_ns - lead.problem.lost_ns(needed)
        if allowed <= 0:
            return []

        def select(at: int, labels: _Labels) -> _Labels:
            left, cell = np.zeros(len(labels)), self._beside.cell(labels.lead)
            for one, rest in rests.items():
                left = np.maximum(left, rest[at + 1][cell] + one * (needed - labels.read))
            expected = labels.delay + left
            hopeful = np.flatnonzero(expected < allowed)
            labels, expected = labels.take(hopeful), expected[hopeful]
            pace = np.floor(labels.read / max(1.0, needed) * PACES).astype(np.int64)
            kept = _undominated(labels, labels.delay - even * labels.read, pace)
            labels, expected, pace = labels.take(kept), expected[kept], pace[kept]
            if len(labels) <= BEAM:
                return labels
            by_pace = np.lexsort((expected, pace))
            opens = np.flatnonzero(np.diff(pace[by_pace], prepend=-1))
            rank = np.arange(len(by_pace)) - np.repeat(opens, np.diff(opens, append=len(by_pace)))
            return labels.take(by_pace[np.argsort(rank, kind="stable")[:BEAM]])

        history = self._run(select)
        if history is None or not len(history[-1]):
            return []
        ends = np.flatnonzero(history[-1].read >= needed - HALF_BYTE)
        best = ends[np.argsort(history[-1].delay[ends], kind="stable")[:3]]
        return [self._pinned(history, int(end)) for end in best]

    def _pinned(self, history: list[_Labels], label: int) -> Mask:
        pinned = self._lead.pinnable.copy()
        for at in range(len(history) - 1, 0, -1):
            if history[at].streamed[label]:
                pinned[self._lead.order[at - 1]] = False
            label = int(history[at].parent[label])
        return pinned

    def _run(self, select: Callable[[int, _Labels], _Labels]) -> list[_Labels] | None:
        """Labels after each weight, until there are none; None if stopped."""
        none = np.zeros(1)
        labels = _Labels(
            none, none, np.array([self._beside.start]), np.zeros(1, np.int64),
            np.zeros(1, np.int64), np.zeros(1, dtype=bool),
        )  # fmt: skip
        history = [labels]
        for at in range(len(self._lead.size)):
            if self._stop():
                return None
            labels = select(at, self._decide(at, labels))
            history.append(labels)
            if not len(labels):
                break
        return history

    def _decide(self, at: int, labels: _Labels) -> _Labels:
        """Every label, with weight `at` pinned and with it streamed, when its layer has run."""
        lead = self._lead
        every = np.arange(len(labels))
        together = sum(
            1 for other in lead.first[max(0, at - OBJECTS) : at] if other == lead.first[at]
        )
        beside = self._held_by_latest(at, labels, together)
        parts, used = [labels.take(every[:0])], [np.zeros(0)]
        if not self._beside.never[at]:
            parts.append(
                replace(
                    labels, held=labels.held << 1, parent=every, streamed=np.zeros_like(every, bool)
                )
            )
            used.append(beside)
        if self._beside.streams(at):
            fits = np.flatnonzero(
                beside + lead.size[at] <= self._beside.room[lead.first[at]] + HALF_BYTE
            )
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
        ahead = self._beside.go_on(at, merged.lead, np.concatenate(used))
        return replace(merged, lead=ahead, held=merged.held & self._in_use_since(at + 1, ahead))

    def _held_by_latest(self, at: int, labels: _Labels, count: int) -> Floats:
        """Bytes of the latest `count` weights before `at` that are streamed."""
        held = np.zeros(len(labels))
        for back in range(count):
            held += np.where(labels.held >> back & 1, self._lead.size[at - 1 - back], 0.0)
        return held

    def _gate(self, at: int, labels: _Labels, together: int) -> Floats:
        """Time from when there is room for weight `at` until now; infinite if there always was.

        From the latest layer back: room for all used since then, and this one.
        """
        lead = self._lead
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
            full = np.isinf(gate) & (held + lead.size[at] > self._beside.room[layer] + HALF_BYTE)
            gate[full] = since
        return gate

    def _released(self, at: int) -> Floats:
        """Time from the uses of the latest weights before `at`, the latest first, to its layer."""
        lead = self._lead
        now = lead.elapsed[lead.first[min(at, len(lead.first) - 1)]]
        latest = np.array(lead.first[max(0, at - OBJECTS) : at][::-1], dtype=np.int64)
        since: Floats = now - lead.elapsed[latest + 1]
        return since

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
            bits = int(labels.held.max()).bit_length() * 3 // 4
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
