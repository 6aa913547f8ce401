"""Runs in which kernels move the weights themselves (`inline`): who carries which chunk, and when.

A chunk lies in the ring, in unified memory, from its read until a command of the compute lane has
moved it. A kernel carries chunks that were read before it starts, so none waits for the disk, and
takes longer by them (`carrying_ns`). What no kernel carried before its use is moved by kernels of
its own, right before the layer that needs it: a stall.

Chunks move in the order in which they are read. They move as soon as a kernel has capacity for
them, not as late: a weight's object is there as a whole from its step on, so waiting saves no
memory, and it would keep a slot of the ring from the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from flashmem_lab.device.spec import carrying_ns
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.plan.clock import Run, on_the_wall, reading_order
from flashmem_lab.plan.plan import Plan
from flashmem_lab.plan.problem import Ints, Mask, Problem


@dataclass(frozen=True, slots=True)
class Step:
    """How a chunk moves.

    Attributes:
        layer: while which, or right before which.
        apart: True if a kernel of its own moves it, before the layer starts.
    """

    layer: int
    apart: bool


Steps = Sequence[Sequence[Step]]
"""For each weight of a problem how each of its chunks moves: x[w, l], unrolled."""


@dataclass(frozen=True, slots=True, eq=False)
class InlineRun:
    """Times of a run, and who moved what in it.

    Attributes:
        run: its uploads are the times of the kernels that moved each chunk.
        order: how each chunk moved, in the order of the reads.
        steps: the same by weight; empty for one that did not move.
    """

    run: Run
    order: Sequence[Step]
    steps: Steps


def run_inline(
    problem: Problem,
    pinned: Mask,
    load_at: Ints,
    *,
    cold: bool,
    barrier: bool = False,
    steps: Steps | None = None,
    heedless: bool = False,
) -> InlineRun:
    """Times of a run in which kernels move what is read.

    Args:
        problem: the model on a device.
        pinned: (n,) weights whose objects are made at step 0; moved only if `cold`.
        load_at: (n,) step of the others' objects.
        cold: True for the first run.
        barrier: True if layer 0 waits for all pinned weights.
        steps: how chunks move, as an earlier run chose it; chosen anew by default.
        heedless: True for kernels that carry whatever is there, beyond their capacity too.
    """
    lanes = _Lanes(problem.in_run(cold=cold), pinned, load_at, cold, barrier)
    for layer in range(len(problem.layers)):
        if steps is None:
            lanes.choose(layer, heedless)
        else:
            lanes.follow(layer, steps)
    return lanes.result()


def planned_steps(plan: Plan, problem: Problem) -> Steps:
    """How a plan moves the chunks of each weight of `problem`."""
    moves = dict(zip(plan.preloaded, plan.preload_moves, strict=False))
    moves |= {weight.weight: weight.moves for weight in plan.streamed}
    return [
        [
            Step(move.layer, chunk < move.apart)
            for move in moves.get(name, ())
            for chunk in range(move.chunks)
        ]
        for name in problem.weights
    ]


class _Lanes:
    """Disk and compute lane, step by step, on the clock of layers and uploads."""

    def __init__(
        self, problem: Problem, pinned: Mask, load_at: Ints, cold: bool, barrier: bool
    ) -> None:
        self._problem = problem
        self._order, needed, gates = reading_order(
            problem, pinned, load_at, cold=cold, barrier=barrier
        )
        counts = problem.chunks[self._order]
        self._owner: list[int] = np.repeat(self._order, counts).tolist()
        firsts = np.cumsum(counts) - counts
        self._chunk: list[int] = (np.arange(counts.sum()) - np.repeat(firsts, counts)).tolist()
        self._needed: list[int] = np.repeat(needed, counts).tolist()
        self._load_at: list[int] = np.repeat(gates, counts).tolist()
        size = problem.chunk[self._owner]
        size[np.cumsum(counts) - 1] = problem.tail[self._order]
        self._size: list[int] = size.tolist()
        self._read_ns: list[float] = (size / problem.own_disk * 1e9).tolist()
        self._rate = problem.upload
        # Of moves alone: how fast the disk reads is another matter.
        hides = problem.launched & (problem.slack > 0)
        longest = problem.duration_ns * (1 + problem.slack)
        self._capacity: list[float] = np.where(hides, longest * self._rate / 1e9, 0.0).tolist()
        self._duration: list[float] = problem.duration_ns.tolist()
        self._slack: list[float] = problem.slack.tolist()
        # Of chunks, in order: what has been read and what has moved; then of layers.
        self._reads: list[tuple[float, float]] = []
        self._ready: list[float] = []  # when disk and ring were ready for the read
        self._moves: list[tuple[float, float]] = []
        self._steps: list[Step] = []
        self._start: list[float] = []
        self._end: list[float] = []
        self._now = 0.0

    def choose(self, layer: int, heedless: bool) -> None:
        """Runs a layer, which carries as many chunks as are there and it has capacity for.

        What it needs itself is moved before. So is, where the ring is full and the disk waits, all
        that is in it but what the layer carries.
        """
        self._move_apart(int(np.searchsorted(self._needed, layer, side="right")), layer)
        first, there = len(self._moves), 0
        while there < self._problem.staging.slots and self._is_there(first + there, layer):
            there += 1
        full = there == self._problem.staging.slots
        room = inf if heedless else self._capacity[layer]
        carried = 0
        if self._problem.launched[layer]:
            sizes = self._size[first : first + there]
            for size in sizes[: -CARRIED - 1 : -1] if full else sizes[:CARRIED]:
                room -= size
                if room < 0:
                    break
                carried += 1
        if full:
            self._move_apart(first + there - carried, layer)
        self._launch(layer, carried)

    def follow(self, layer: int, steps: Steps) -> None:
        """Runs a layer as it was planned."""
        apart, last = len(self._moves), len(self._moves)
        while last < len(self._owner):
            step = steps[self._owner[last]][self._chunk[last]]
            if step.layer > layer:
                break
            last += 1
            apart = last if step.apart else apart
        self._move_apart(apart, layer)
        if last > apart:
            self._now = max(self._now, self._read(last - 1))
        self._launch(layer, last - apart)

    def _move_apart(self, until: int, layer: int) -> None:
        """Moves the chunks before `until` by kernels of their own."""
        for at in range(len(self._moves), until):
            start = max(self._now, self._read(at))
            self._now = start + self._problem.launch_ns + self._size[at] / self._rate * 1e9
            self._moves.append((start, self._now))
            self._steps.append(Step(layer, apart=True))

    def _launch(self, layer: int, carried: int) -> None:
        """Runs the layer, which moves the next chunks meanwhile."""
        first = len(self._moves)
        size = sum(self._size[first : first + carried])
        start = self._now
        self._now += carrying_ns(self._duration[layer], self._slack[layer], self._rate, size)
        self._start.append(start)
        self._end.append(self._now)
        self._moves += [(start, self._now)] * carried
        self._steps += [Step(layer, apart=False)] * carried

    def result(self) -> InlineRun:
        """All of it, in real time."""
        counts = self._problem.chunks[self._order]
        lasts = np.cumsum(counts) - 1
        begins = lasts - counts + 1
        read = np.array(self._reads).reshape(-1, 2)
        moved = np.array(self._moves).reshape(-1, 2)
        ends = np.array([0.0, *self._end])
        steps: list[list[Step]] = [[] for _ in self._problem.weights]
        for weight, step in zip(self._owner, self._steps, strict=True):
            steps[weight].append(step)
        run = Run(
            order=self._order,
            gate=ends[np.array(self._load_at, dtype=np.int64)[begins]],
            free=np.array(self._ready)[begins],
            begin=read[begins, 0],
            arrival=moved[lasts, 1],
            read=read,
            upload=moved,
            start=np.array(self._start),
            end=np.array(self._end),
        )
        return InlineRun(on_the_wall(run, self._problem), self._steps, steps)

    def _is_there(self, at: int, layer: int) -> bool:
        """Whether a chunk has been read: its object and its slot were free in time."""
        if at >= len(self._owner) or self._load_at[at] > layer:
            return False
        return self._read(at) <= self._now

    def _read(self, at: int) -> float:
        """When chunk `at` is in the ring; reads all before it, too."""
        slots = self._problem.staging.slots
        while (next_ := len(self._reads)) <= at:
            disk = self._reads[-1][1] if self._reads else 0.0
            emptied = self._moves[next_ - slots][1] if next_ >= slots else 0.0
            gate = self._end[self._load_at[next_] - 1] if self._load_at[next_] else 0.0
            self._ready.append(max(disk, emptied))
            start = max(disk, emptied, gate)
            self._reads.append((start, start + self._read_ns[next_]))
        return self._reads[at][1]
