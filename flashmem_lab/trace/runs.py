"""A trace cut into its runs, and what each run held on the device as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    """The runs of a timeline, in order.

    A recorder may let the clock go on from run to run or start it anew for each: a run whose
    times begin before the run before it ended has a clock of its own.
    """
    runs: list[Run] = []
    held: dict[Pool, int] = {}
    clock_end = trace_end = 0
    indices = {event.run for event in timeline.events} | {s.run for s in timeline.samples}
    for index in sorted(indices):
        events = [event for event in timeline.events if event.run == index]
        samples = [sample for sample in timeline.samples if sample.run == index]
        starts = [event.start_ns for event in events] + [sample.time_ns for sample in samples]
        ends = [event.end_ns for event in events] + [sample.time_ns for sample in samples]
        first = min(starts)
        origin = first if runs and first >= clock_end else 0
        begin_ns = trace_end + (first - clock_end if origin else 0)
        clock_end, length_ns = max(ends), max(ends) - origin
        trace_end = begin_ns + length_ns
        runs.append(
            Run(
                index=index,
                begin_ns=begin_ns,
                length_ns=length_ns,
                events=_events_since(origin, sorted(events, key=lambda e: e.start_ns)),
                samples=_samples_since(origin, sorted(samples, key=lambda s: s.time_ns)),
                held=dict(held),
            )
        )
        held.update({sample.pool: sample.bytes for sample in runs[-1].samples})
    return tuple(runs)


def _events_since(origin: int, events: list[Event]) -> tuple[Event, ...]:
    """Events on a clock that starts at `origin`; copied only where that changes them."""
    if origin == 0:
        return tuple(events)
    return tuple(
        replace(
            e,
            start_ns=e.start_ns - origin,
            end_ns=e.end_ns - origin,
            queued_ns=max(-1, e.queued_ns - origin),
        )
        for e in events
    )


def _samples_since(origin: int, samples: list[MemorySample]) -> tuple[MemorySample, ...]:
    if origin == 0:
        return tuple(samples)
    return tuple(replace(s, time_ns=s.time_ns - origin) for s in samples)


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
