"""Runs of a workbench as they are remembered: their figures, and what the first of each held."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flashmem_lab.trace import RunRow, Trace
from flashmem_lab.trace.runs import memory_curve, split_runs
from flashmem_lab.views.store import read, store_of, write

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
        ended_s: when it ended, seconds since 1970; 0 where that was not written down.
    """

    number: int
    row: RunRow
    time_ms: tuple[float, ...]
    held: tuple[int, ...]
    ended_s: float = 0.0


def past(row: RunRow, trace: Trace) -> Past:
    """A run that has just ended; of a long curve, every part keeps the most that it held."""
    ended_s = time.time()
    runs = split_runs(trace.timeline)
    if not runs:
        return Past(1, row, (), (), ended_s)
    curve = memory_curve(runs[0])
    width = -(-len(curve.time_ns) // _MOST_STEPS)
    begins = np.arange(0, len(curve.time_ns), width)
    held = np.maximum.reduceat(curve.total, begins)
    times = np.append(curve.time_ns[begins], curve.end_ns) / 1e6
    return Past(
        1,
        row,
        tuple(times.round(4).tolist()),
        tuple(np.append(held, held[-1]).tolist()),
        ended_s,
    )


@dataclass(frozen=True, slots=True)
class _Log:
    runs: tuple[Past, ...]


class RunLog:
    """The runs of a model, whichever workbench they were made in: a notebook's or a tab of Lab.

    Args:
        model: path of the .onnx file.

    Attributes:
        runs: every run that is remembered, the latest last.
    """

    def __init__(self, model: Path) -> None:
        self._file = store_of(model, ".runs.json")
        self.runs = self._read()

    def add(self, run: Past) -> None:
        """Numbers a run and remembers it, after those that others made meanwhile."""
        before = max(self.runs, self._read(), key=_latest)  # the file may be out of reach
        self.runs = (*before, replace(run, number=_latest(before) + 1))[-MOST_RUNS:]
        write(self._file, _Log(self.runs))  # some ten kilobytes a run

    def _read(self) -> tuple[Past, ...]:
        log = read(self._file, _Log)
        return log.runs if log else ()


def _latest(runs: tuple[Past, ...]) -> int:
    """The number of the latest one; 0 where there is none."""
    return runs[-1].number if runs else 0
