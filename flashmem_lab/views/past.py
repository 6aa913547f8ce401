"""Runs of a workbench as they are remembered: their figures, and what the first of each held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashmem_lab.trace import RunRow, Trace
from flashmem_lab.trace.runs import memory_curve, split_runs

MOST_RUNS = 40
"""That are remembered; older ones are forgotten."""

_MOST_STEPS = 512  # of a curve: as many as a picture shows apart


@dataclass(frozen=True, slots=True)
class Past:
    """A press of Run.

    Attributes:
        number: of it, from 1 on.
        row: its figures.
        time_ms: moments of its first run at which what is held changes.
        held: bytes on the device from each of them on; the last one is the end.
    """

    number: int
    row: RunRow
    time_ms: tuple[float, ...]
    held: tuple[int, ...]


def past(number: int, row: RunRow, trace: Trace) -> Past:
    """A run that has just ended; of a long curve, every part keeps the most that it held."""
    runs = split_runs(trace.timeline)
    if not runs:
        return Past(number, row, (), ())
    curve = memory_curve(runs[0])
    width = -(-len(curve.time_ns) // _MOST_STEPS)
    begins = np.arange(0, len(curve.time_ns), width)
    held = np.maximum.reduceat(curve.total, begins)
    times = np.append(curve.time_ns[begins], curve.end_ns) / 1e6
    return Past(
        number, row, tuple(times.round(4).tolist()), tuple(np.append(held, held[-1]).tolist())
    )
