"""When everything happens in one run: the lanes of the runtime as a recurrence of maxima.

The disk reads chunks in order, the transfer lane uploads them in order, layers run in order. An
object of step l is made when layer l-1 has ended, so its first read starts no earlier; with a
staging ring a read also waits for the upload that empties its slot. A layer waits for the layer
before it and for the weights that it uses first.

The lanes share a memory, or cores: while the disk reads, uploads and layers go on at 1 / (1 +
contention) of their pace. So everything is reckoned on a clock of their own, which goes at that
pace. On it they last as long as ever, a read is shorter by that factor (`Problem.own_disk`), and
the recurrence is the same as without contention. On the wall a moment comes later by contention
times what has been read until then, in time on that clock. Wherever all reads are over, that is
the same for every schedule that reads the same bytes.

Making an object earlier therefore never makes a read, or the end of the run, later: a maximum of
sums grows with its terms, and all reads of a run cost the same wherever they are. (A layer on the
way there may end later, where more has been read while it ran.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf, isinf

import numpy as np

from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem
from flashmem_lab.plan.told import told


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Times of one run, ns from its start.

    Attributes:
        order: weights that move, in the order in which they are read; the next four follow it.
        gate: when the weight's object exists.
        free: when disk and ring were ready for it; it waited for memory where gate > free.
        begin: when its first read starts.
        arrival: when its last chunk is in place.
        read, upload: (chunks, 2) start and end of each chunk's read and upload, in order;
            an upload takes no time where reads land in place.
        start, end: (N,) of each layer.
    """

    order: Ints
    gate: Floats
    free: Floats
    begin: Floats
    arrival: Floats
    read: Floats
    upload: Floats
    start: Floats
    end: Floats

    @property
    def total_ns(self) -> float:
        """End of the last layer."""
        return float(self.end[-1])


def run_clock(
    problem: Problem, pinned: Mask, load_at: Ints, *, cold: bool, barrier: bool = False
) -> Run:
    """Times of a run, with what the host takes besides (`told`).

    Args:
        problem: the model on a device.
        pinned: (n,) weights whose objects are made at step 0; read only if `cold`.
        load_at: (n,) step of the others' objects.
        cold: True for the first run.
        barrier: True if layer 0 waits for all pinned weights, which are read before all others.
    """
    problem = told(problem, pinned, load_at, cold=cold)
    own = own_clock(problem, pinned, load_at, cold=cold, barrier=barrier)
    return on_the_wall(own, problem)


def own_clock(
    problem: Problem,
    pinned: Mask,
    load_at: Ints,
    *,
    cold: bool,
    barrier: bool = False,
    chunks: bool = True,
) -> Run:
    """A run on the clock of layers and uploads; what comes before what is the same on both.

    Args:
        problem: the model on a device, as in that run (`Problem.in_run`).
        pinned: as for `run_clock`.
        load_at: as for `run_clock`.
        cold: as for `run_clock`.
        barrier: as for `run_clock`.
        chunks: False to leave out `read` and `upload`, which take most of the time.
    """
    lanes = _Lanes(problem)
    order, needed, gates, delays = _move(problem, lanes, pinned, load_at, cold, barrier)
    elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
    steps = np.arange(len(problem.layers))
    delay = np.array(delays)[np.searchsorted(needed, steps, side="right")]
    none = np.zeros((0, 2))
    read, upload = lanes.chunk_times() if chunks else (none, none)
    return Run(
        order=order,
        gate=np.array(gates),
        free=np.array(lanes.free),
        begin=np.array(lanes.begin),
        arrival=np.array(lanes.arrival),
        read=read,
        upload=upload,
        start=delay + elapsed[:-1],
        end=delay + elapsed[1:],
    )


def on_the_wall(run: Run, problem: Problem) -> Run:
    """A run whose times are on the clock of layers and uploads, in real time."""
    read = run.read if problem.contention and len(run.read) else np.zeros((1, 2))
    spent = np.cumsum(read[:, 1] - read[:, 0])
    until = np.stack((np.concatenate(([0.0], spent[:-1])), spent), axis=1).ravel()

    def later(own: Floats) -> Floats:
        spent_until: Floats = np.interp(own, read.ravel(), until)
        return problem.start_ns + own + problem.contention * spent_until

    return Run(
        order=run.order,
        gate=later(run.gate),
        free=later(run.free),
        begin=later(run.begin),
        arrival=later(run.arrival),
        read=later(run.read),
        upload=later(run.upload),
        start=later(run.start),
        end=later(run.end),
    )


def run_ns(
    problem: Problem,
    pinned: Mask,
    load_at: Ints,
    *,
    cold: bool,
    barrier: bool = False,
    limit_ns: float = inf,
) -> float:
    """How long a run takes, found in a fraction of the time of `run_clock`.

    Without what the host takes besides, unless the problem is `told` it. Once the time is sure to
    exceed `limit_ns` it is no longer worth finding: some time beyond the limit is returned.
    """
    problem = problem.in_run(cold=cold)
    unavoidable_ns = _unavoidable_ns(problem, pinned, cold)
    most = limit_ns - unavoidable_ns
    delays = _move(problem, _Lanes(problem), pinned, load_at, cold, barrier, most)[3]
    return unavoidable_ns + delays[-1]


def _unavoidable_ns(problem: Problem, pinned: Mask, cold: bool) -> float:
    """Time of a run in which no layer waits for a weight."""
    moved = problem.load.sum() if cold else problem.load[~pinned].sum()
    return problem.compute_ns + problem.lost_ns(float(moved))


def ns_at_least(
    problem: Problem, pinned: Mask, load_at: Ints, *, cold: bool, rounds: int | None = None
) -> float:
    """Less than or equal to `run_ns` without barrier, on arrays: by whole weights, not by chunks.

    Left out is what the ring holds up: equal where reads land in place, and else to within an
    upload or so. Each round lets the stalls that the one before found postpone the objects made
    after them; times only rise, so every round is a bound, and where nothing changes any more
    all stalls are counted. Two rounds are nearly always close.

    Args:
        problem: the model on a device.
        pinned: (n,) weights whose objects are made at step 0; read only if `cold`.
        load_at: (n,) step of the others' objects.
        cold: True for the first run.
        rounds: at most this many; until nothing changes by default.
    """
    problem = problem.in_run(cold=cold)
    load_at = np.where(pinned, 0, load_at)
    moving = np.arange(len(pinned)) if cold else np.flatnonzero(~pinned)
    if not len(moving):
        return problem.compute_ns
    if cold or (np.diff(load_at) < 0).any():  # the order of `_move`
        moving = moving[np.lexsort((~pinned[moving], load_at[moving], problem.first[moving]))]
    first, load_at = problem.first[moving], load_at[moving]
    elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
    read = np.cumsum(problem.load[moving]) / problem.own_disk * 1e9
    # Were the disk to read without a pause: how late each weight is; when its read would begin.
    late = read + problem.tail[moving] / problem.upload * 1e9 - elapsed[first]
    begin = np.concatenate(([0.0], read[:-1]))
    gated = load_at > 0
    opens = np.where(gated, elapsed[load_at], 0.0) - begin
    waited_for = np.where(gated, np.searchsorted(first, load_at - 1, side="right"), 0)
    delays = np.zeros(len(moving) + 1)
    for _ in range(len(moving) + 1 if rounds is None else rounds):
        pauses = np.maximum.accumulate(np.maximum(opens + delays[waited_for], 0.0))
        longer = np.maximum.accumulate(np.maximum(late + pauses, 0.0))
        if (longer == delays[1:]).all():
            break
        delays[1:] = longer
    return _unavoidable_ns(problem, pinned, cold) + float(delays[-1])


def reading_order(
    problem: Problem, pinned: Mask, load_at: Ints, *, cold: bool, barrier: bool
) -> tuple[Ints, Ints, Ints]:
    """(weights in the order in which they are read, layer that needs each, step of each object).

    In order of use; what is used first by one layer, in order of creation, pinned weights first.
    """
    load_at = np.where(pinned, 0, load_at)
    moving = np.arange(len(pinned)) if cold else np.flatnonzero(~pinned)
    needed = np.where(pinned, 0, problem.first) if barrier else problem.first
    behind = ~pinned if barrier else np.zeros_like(pinned)
    keys = (moving, ~pinned[moving], load_at[moving], needed[moving], behind[moving])
    order = moving[np.lexsort(keys)]
    return order, needed[order], load_at[order]


def _move(
    problem: Problem,
    lanes: _Lanes,
    pinned: Mask,
    load_at: Ints,
    cold: bool,
    barrier: bool,
    most: float = inf,
) -> tuple[Ints, Ints, list[float], list[float]]:
    """Moves all weights: (order, layer that needs each, gate of each, delays).

    A layer is delayed by delays[i] once i weights of the order have been waited for. Nothing
    moves any more after a delay of more than `most`.
    """
    order, needed, load_at = reading_order(problem, pinned, load_at, cold=cold, barrier=barrier)
    elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
    waited_for = np.searchsorted(needed, load_at - 1, side="right").tolist()
    since_start = np.where(load_at > 0, elapsed[load_at], -inf).tolist()
    lanes.line_up(order)
    delays, gates = [0.0], []
    for at, (waited, since, need) in enumerate(
        zip(waited_for, since_start, elapsed[needed].tolist(), strict=True)
    ):
        gate = max(0.0, delays[waited] + since)
        gates.append(gate)
        delays.append(max(delays[-1], lanes.move(at, gate) - need))
        if delays[-1] > most:
            break
    return order, needed, gates, delays


class _Lanes:
    """Disk and transfer lane, weight by weight: `move` has one form for each transport.

    All times are on the clock of layers and uploads.
    """

    def __init__(self, problem: Problem) -> None:
        self.free: list[float] = []
        self.begin: list[float] = []
        self.arrival: list[float] = []
        self._problem = problem
        self._slots = problem.staging.slots
        self._disk = 0.0
        self._uploaded = 0.0
        # Ends of the latest uploads, one for each slot of the ring.
        self._emptied: deque[float] = deque(maxlen=self._slots or 1)
        # (first read's start, read, first upload's start, upload, chunks): chunks alike, in a row.
        self._runs: list[tuple[float, float, float, float, int]] = []
        self.move = self._in_place if isinf(problem.upload) else self._through_ring

    def line_up(self, order: Ints) -> None:
        """Takes the weights that will move, in order."""
        problem = self._problem
        whole, tail = problem.chunk[order], problem.tail[order]
        self._counts = problem.chunks[order]
        self._chunks = self._counts.tolist()
        self._read_ns = (whole / problem.own_disk * 1e9).tolist()
        self._read_tail_ns = (tail / problem.own_disk * 1e9).tolist()
        self._weight_ns = (problem.load[order] / problem.own_disk * 1e9).tolist()
        self._upload_ns = (whole / problem.upload * 1e9).tolist()
        self._upload_tail_ns = (tail / problem.upload * 1e9).tolist()

    def _in_place(self, at: int, gate: float) -> float:
        """Reads weight `at` of the order into its mapped object; returns when it is there."""
        self.free.append(self._disk)
        begin = max(self._disk, gate)
        self._disk = begin + self._weight_ns[at]
        self.begin.append(begin)
        self.arrival.append(self._disk)
        return self._disk

    def _through_ring(self, at: int, gate: float) -> float:
        """Reads weight `at` chunk by chunk into free slots and uploads each.

        Where uploads are no slower than reads and there are two slots, no chunk waits any more
        once one was uploaded without waiting: the rest of them follow at once.
        """
        emptied, slots = self._emptied, self._slots
        disk, uploaded = self._disk, self._uploaded
        last = self._chunks[at] - 1
        read_ns, upload_ns = self._read_ns[at], self._upload_ns[at]
        steady = slots > 1 and upload_ns <= read_ns
        chunk = 0
        while chunk <= last:
            if chunk == last:
                read_ns, upload_ns = self._read_tail_ns[at], self._upload_tail_ns[at]
            start = max(disk, emptied[0]) if len(emptied) == slots else disk
            if chunk == 0:
                self.free.append(start)
                start = max(start, gate)
                self.begin.append(start)
            disk = start + read_ns
            begin = max(uploaded, disk)
            count = 1
            if steady and begin == disk and chunk < last - 1:
                count = last - chunk
                disk += (count - 1) * read_ns
            uploaded = begin + (count - 1) * read_ns + upload_ns
            self._runs.append((start, read_ns, begin, upload_ns, count))
            for back in range(min(count, slots) - 1, -1, -1):
                emptied.append(uploaded - back * read_ns)
            chunk += count
        self._disk, self._uploaded = disk, uploaded
        self.arrival.append(uploaded)
        return uploaded

    def chunk_times(self) -> tuple[Floats, Floats]:
        """(chunks, 2) start and end of every read, and of every upload."""
        if self._runs:
            table = np.array([run[:4] for run in self._runs])
            counts = np.array([run[4] for run in self._runs])
            start, read_ns, begin, upload_ns = np.repeat(table, counts, axis=0).T
            since = _ordinals(counts) * read_ns
            reads = np.stack((start + since, start + since + read_ns), axis=1)
            uploads = np.stack((begin + since, begin + since + upload_ns), axis=1)
            return reads, uploads
        # In place a weight's chunks follow one another without a gap.
        counts, ordinals = self._counts, _ordinals(self._counts)
        besides_ns = self._problem.weight_ns / (1 + self._problem.contention)
        start = np.repeat(self.begin, counts) + ordinals * np.repeat(self._read_ns, counts)
        start += np.where(ordinals > 0, besides_ns, 0.0)  # part of each weight's first chunk
        end = np.concatenate((start[1:], [0.0]))[: len(start)]
        if len(start):
            end[np.cumsum(counts) - 1] = self.arrival
        return np.stack((start, end), axis=1), np.stack((end, end), axis=1)


def _ordinals(counts: Ints) -> Ints:
    """0, 1, ... counts[i] - 1 for each i in turn."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
