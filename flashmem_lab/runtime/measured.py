"""What a runtime measured, put together as the result that every runtime gives."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from flashmem_lab.plan.timeline import Event, MemorySample, Pool, Timeline
from flashmem_lab.program.program import Program
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.booking import Booking
from flashmem_lab.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Pass:
    """One run: times of its start and end, what happened, and the outputs.

    Attributes:
        start_ns, end_ns: on the clock of the machine that ran it.
        events: from the start on.
        outputs: by port name, in the ports' dtypes and shapes.
    """

    start_ns: int
    end_ns: int
    events: tuple[Event, ...]
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Building:
    """What building kernels took, and how many of them were compiled."""

    ms: float
    compiled: int


def result_of(
    program: Program,
    passes: Sequence[Pass],
    booking: Booking,
    resident: Sequence[tuple[int, int]],
    building: Building,
    *,
    origin: str,
    device: str,
    notes: Mapping[str, str],
) -> RunResult:
    """The result of all passes of a program.

    Args:
        program: what ran.
        passes: one or more, the first one cold.
        booking: the memory order of them all.
        resident: resident set of the process that ran it, (time on the clock of the passes, bytes).
        building: of its kernels.
        origin: of the trace.
        device: its id.
        notes: of the trace, beside those that every measured run has.
    """
    samples = [*booking.samples, *_host_samples(resident, passes)]
    trace = Trace(
        origin=origin,
        model=program.model,
        device=device,
        strategy=program.strategy,
        precision=program.precision,
        budget_bytes=program.budget_bytes,
        timeline=Timeline(
            events=tuple(chain.from_iterable(one.events for one in passes)),
            samples=tuple(sorted(samples, key=lambda s: (s.run, s.time_ns))),
        ),
        layers=program.layers,
        notes={
            **notes,
            "compile_ms": f"{building.ms:.1f}",
            "host_rss_start_bytes": str(resident[0][1]),
        },
    )
    stalls = (event for event in passes[0].events if event.kind == "stall")
    return RunResult(
        outputs=passes[-1].outputs,
        trace=trace,
        first_run_ms=_ms(passes[0]),
        warm_ms=tuple(_ms(later) for later in passes[1:]),
        compile_ms=building.ms,
        kernels_compiled=building.compiled,
        stall_ms=sum(event.end_ns - event.start_ns for event in stalls) / 1e6,
        peak_bytes={**booking.peak_bytes(), "host": max(held for _, held in resident)},
        average_bytes=booking.average_bytes(),
    )


def _host_samples(
    resident: Sequence[tuple[int, int]], passes: Sequence[Pass]
) -> list[MemorySample]:
    """Resident set samples on each run's own clock; what is between two runs is of none."""
    found = []
    starts = [one.start_ns for one in passes]
    for time_ns, held in resident:
        run = bisect_right(starts, time_ns) - 1
        if run >= 0 and time_ns <= passes[run].end_ns:
            found.append(MemorySample(time_ns - starts[run], Pool.HOST, held, run))
    return found


def _ms(one: Pass) -> float:
    return (one.end_ns - one.start_ns) / 1e6
