"""A trace cut into its runs, and what each run held on the device as arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan.timeline import Event, Lane, MemorySample, Pool, Timeline

DEVICE_POOLS = (Pool.STAGING, Pool.BUFFER, Pool.TEXTURE)
"""The pools that the budget caps, in the order in which pictures stack them."""

_WORK = ("launch", "host", "rows")  # a layer runs; inputs and outputs are moved around it


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a trace, on a clock of its own that starts at 0.

    Attributes:
        index: 0 for the cold run, then 1, 2, ...
        begin_ns: its start on the clock of the whole trace.
        length_ns: until its last event or sample.
        events, samples: of this run, sorted by start; times count from the start of the run.
        held: bytes in each pool when it starts: what the run before left on the device.
    """

    index: int
    begin_ns: int
    length_ns: int
    events: tuple[Event, ...]
    samples: tuple[MemorySample, ...]
    held: Mapping[Pool, int]


def split_runs(timeline: Timeline) -> tuple[Run, ...]:
    """The runs of a timeline, in order; on the clock of the whole trace they follow each other."""
    events: dict[int, list[Event]] = defaultdict(list)
    samples: dict[int, list[MemorySample]] = defaultdict(list)
    for event in timeline.events:
        events[event.run].append(event)
    for sample in timeline.samples:
        samples[sample.run].append(sample)
    runs: list[Run] = []
    held: dict[Pool, int] = {}
    begin_ns = 0
    for index in sorted(events.keys() | samples.keys()):
        run = Run(
            index=index,
            begin_ns=begin_ns,
            length_ns=max(
                [event.end_ns for event in events[index]] + [s.time_ns for s in samples[index]]
            ),
            events=tuple(sorted(events[index], key=lambda event: event.start_ns)),
            samples=tuple(sorted(samples[index], key=lambda sample: sample.time_ns)),
            held=dict(held),
        )
        runs.append(run)
        begin_ns += run.length_ns
        held.update({sample.pool: sample.bytes for sample in run.samples})
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """What a run held on the device; entry i holds from time_ns[i] on.

    Attributes:
        time_ns: moment of each change, the first at 0; shape (n,).
        pools: bytes of each device pool after each change; shape (n,) each.
        layer: index of the layer that the compute lane was at, -1 before the first; shape (n,).
        end_ns: when the run ends.
    """

    time_ns: NDArray[np.int64]
    pools: Mapping[Pool, NDArray[np.int64]]
    layer: NDArray[np.int64]
    end_ns: int

    @property
    def total(self) -> NDArray[np.int64]:
        """Bytes held by all device pools together; shape (n,)."""
        total: NDArray[np.int64] = np.sum(list(self.pools.values()), axis=0, dtype=np.int64)
        return total

    def states(self) -> list[tuple[int, ...]]:
        """Bytes of each device pool after each change, in the order of `DEVICE_POOLS`."""
        columns = (self.pools[pool].tolist() for pool in DEVICE_POOLS)
        return list(zip(*columns, strict=True))

    @property
    def peak_bytes(self) -> int:
        """Most bytes held at once."""
        return int(self.total.max())

    @property
    def average_bytes(self) -> float:
        """Mean over the time of the run."""
        return time_average(self.time_ns, self.total, self.end_ns)


def memory_curve(run: Run) -> MemoryCurve:
    """Device memory of `run`, one entry for its start and one for each sample of a device pool."""
    samples = [sample for sample in run.samples if sample.pool in DEVICE_POOLS]
    times = np.zeros(len(samples) + 1, np.int64)
    pools = {pool: np.zeros(len(samples) + 1, np.int64) for pool in DEVICE_POOLS}
    now = {pool: run.held.get(pool, 0) for pool in DEVICE_POOLS}
    for row, sample in enumerate((None, *samples)):
        if sample is not None:
            times[row] = sample.time_ns
            now[sample.pool] = sample.bytes
        for pool in DEVICE_POOLS:
            pools[pool][row] = now[pool]
    return MemoryCurve(times, pools, _layers_at(run, times), run.length_ns)


def rows_by_layer(
    run: Run, curve: MemoryCurve, expected: list[tuple[int, ...]] | None = None
) -> list[int]:
    """For each layer, the entry of `curve` that tells what was held while it ran.

    Objects of a layer are made after the frees of the layer before it and freed after its end, in
    one order that a prediction and its measurement share. `expected` are the pools' bytes during
    each layer of the other one: where they all occur in `curve` in this order, those entries are
    taken. Else the clocks decide, a little off where a kernel ends before its memory is booked.
    """
    ends: dict[int, int] = {}
    for event in run.events:
        if event.lane is Lane.COMPUTE and event.layer >= 0 and event.kind in _WORK:
            ends[event.layer] = max(ends.get(event.layer, 0), event.end_ns)
    moments = [ends[layer] for layer in sorted(ends)]
    by_clock: list[int] = (
        (np.searchsorted(curve.time_ns, moments, side="left") - 1).clip(min=0).tolist()
    )
    if expected is None or len(expected) != len(by_clock):
        return by_clock
    states = curve.states()
    rows: list[int] = []
    at = 0
    for state in expected:
        while at < len(states) and states[at] != state:
            at += 1
        if at == len(states):
            return by_clock
        rows.append(at)
    return rows


def host_curve(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Moments (ns) and resident bytes of the host process, as sampled; empty if never sampled."""
    samples = [sample for sample in run.samples if sample.pool is Pool.HOST]
    times = np.array([sample.time_ns for sample in samples], np.int64)
    return times, np.array([sample.bytes for sample in samples], np.int64)


def time_average(times: NDArray[np.int64], values: NDArray[np.int64], end: int) -> float:
    """Mean of a step curve: values[i] holds from times[i] to times[i + 1], the last to `end`."""
    spans = np.diff(np.append(times, max(end, int(times[-1]))))
    length = int(spans.sum())
    return float(spans @ values) / length if length else float(values[-1])


def _layers_at(run: Run, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Layer whose work on the compute lane started last at each of `times`."""
    work = [e for e in run.events if e.lane is Lane.COMPUTE and e.kind != "stall" and e.layer >= 0]
    starts = np.array([event.start_ns for event in work], np.int64)
    layers = np.array([-1, *(event.layer for event in work)], np.int64)
    return layers[np.searchsorted(starts, times, side="right")]
