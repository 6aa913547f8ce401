"""Figures of a trace: peaks, averages, stalls, how busy each lane was and how much overlapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flashmem_lab.plan.timeline import Event, Lane, Pool
from flashmem_lab.trace.runs import DEVICE_POOLS, Run, host_curve, memory_curve, split_runs
from flashmem_lab.trace.spans import length, merge, union
from flashmem_lab.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """One run.

    Attributes:
        run: 0 for the cold run.
        duration_ns: from its start to its last event.
        peak_bytes: most held at once in each device pool, by pool name, and as "total".
        average_bytes: mean of the total over the time of the run.
        host_peak_bytes: largest resident set sampled, or 0.
        stall_ns: time the compute lane waited for weights.
        busy_ns: time in which each lane worked, by lane name; stalls are not work.
        overlap_ns: time in which bytes moved (disk or transfer) while a layer computed.
        moved_bytes: bytes that each lane moved, by lane name.
    """

    run: int
    duration_ns: int
    peak_bytes: Mapping[str, int]
    average_bytes: int
    host_peak_bytes: int
    stall_ns: int
    busy_ns: Mapping[str, int]
    overlap_ns: int
    moved_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Statistics:
    """All runs of a trace; peaks are the highest of any run, the average weighs runs by length."""

    runs: tuple[RunStatistics, ...]
    peak_bytes: Mapping[str, int]
    average_bytes: int
    host_peak_bytes: int
    stall_ns: int


def statistics(trace: Trace) -> Statistics:
    """Figures of every run of `trace` and of the whole."""
    runs = tuple(_of_run(run) for run in split_runs(trace.timeline))
    names = [*(pool.value for pool in DEVICE_POOLS), "total"]
    whole_ns = sum(run.duration_ns for run in runs)
    weighted = sum(run.average_bytes * run.duration_ns for run in runs)
    return Statistics(
        runs=runs,
        peak_bytes={name: max((run.peak_bytes[name] for run in runs), default=0) for name in names},
        average_bytes=round(weighted / whole_ns) if whole_ns else 0,
        host_peak_bytes=max((run.host_peak_bytes for run in runs), default=0),
        stall_ns=sum(run.stall_ns for run in runs),
    )


def _of_run(run: Run) -> RunStatistics:
    curve = memory_curve(run)
    busy = {lane: union(e for e in run.events if e.lane is lane and _works(e)) for lane in Lane}
    moving = merge([*busy[Lane.DISK], *busy[Lane.TRANSFER]])
    _, host = host_curve(run)
    return RunStatistics(
        run=run.index,
        duration_ns=run.length_ns,
        peak_bytes={
            **{pool.value: int(held.max()) for pool, held in curve.pools.items()},
            "total": curve.peak_bytes,
        },
        average_bytes=round(curve.average_bytes),
        host_peak_bytes=max([run.held.get(Pool.HOST, 0), *host.tolist()]),
        stall_ns=sum(e.end_ns - e.start_ns for e in run.events if not _works(e)),
        busy_ns={lane.value: length(spans) for lane, spans in busy.items()},
        overlap_ns=length(moving)
        + length(busy[Lane.COMPUTE])
        - length(merge([*moving, *busy[Lane.COMPUTE]])),
        moved_bytes={
            lane.value: sum(e.bytes for e in run.events if e.lane is lane) for lane in Lane
        },
    )


def _works(event: Event) -> bool:
    return event.kind != "stall"
