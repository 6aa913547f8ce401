"""Plans along the scale of budgets: what the browser previews with, and the slider's marks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.device import simulated_devices
from flashmem_lab.errors import FlashMemError
from flashmem_lab.plan import Objective, Plan
from flashmem_lab.trace import Trace
from flashmem_lab.trace.runs import memory_curve, split_runs
from flashmem_lab.views.engine import preview
from flashmem_lab.views.planning import Choice, Planner, Scale
from flashmem_lab.views.wire import encode

SCHEMA = "flashmem-lab/sweep-view/1"

# Percent of the scale, coarse to fine: what is known after 3, 5, 9 or 17 of them is spread evenly.
_PLACES = tuple(
    100 * at / parts
    for parts, ats in ((1, (0, 1)), (2, (1,)), (4, (1, 3)), (8, (1, 3, 5, 7)))
    for at in ats
) + tuple(100 * at / 16 for at in range(1, 16, 2))
_TELL = (3, 5, 9, len(_PLACES))
_BINS = 192  # of a curve: about as many as a preview has pixels to say something with
_PAUSE = 0.01  # s between two plans, in which the kernel does what else it has to
_QUIET = 0.5  # s without a move of the slider before plans are made for elsewhere
_FLAT = 0.02  # a time that changes by less than this share along the scale has no knee


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One budget's plan, reduced to what a preview shows.

    Attributes:
        percent: of the scale.
        plan: for that budget.
        over_time: bytes held at `_BINS` equal steps of its first run, the most in each.
        over_layers: the same over its layers.
    """

    percent: float
    plan: Plan
    over_time: NDArray[np.float64]
    over_layers: NDArray[np.float64]


def place(percent: float, plan: Plan, predicted: Trace) -> Place:
    """Reduces a plan and its predicted trace."""
    run = split_runs(predicted.timeline)[0]
    curve = memory_curve(run)
    seen = curve.layer >= 0
    last = len(predicted.layers)
    return Place(
        percent,
        plan,
        _binned(curve.time_ns, curve.total, curve.end_ns),
        _binned(curve.layer[seen], curve.total[seen], last),
    )


def _binned(at: NDArray[np.int64], level: NDArray[np.int64], end: int) -> NDArray[np.float64]:
    """The most that a step curve reaches in each of `_BINS` equal parts of 0..end."""
    edges = np.arange(_BINS) * (max(end, 1) / _BINS)
    before = (np.searchsorted(at, edges, side="right") - 1).clip(min=0)
    found: NDArray[np.float64] = level[before].astype(np.float64)
    bins = np.minimum((at * _BINS) // max(end, 1), _BINS - 1)
    np.maximum.at(found, bins, level)
    return found


def sweep_data(places: Sequence[Place], scale: Scale, optimize: Objective) -> bytes:
    """Times, curves and marks; mirrored by widgets/src/core/sweep.ts.

    Args:
        places: at least two.
        scale: the slider's.
        optimize: which time has a knee.
    """
    places = sorted(places, key=lambda one: one.percent)
    times = [
        one.plan.predicted.warm_ms if optimize is Objective.WARM else one.plan.predicted.cold_ms
        for one in places
    ]
    percents = [one.percent for one in places]
    marks = [(0.0, "least", "the smallest feasible budget")]
    found = knee(percents, times)
    if found is not None:
        marks.append((found, "knee", "from here on more memory buys little time"))
    return encode(
        SCHEMA,
        {
            "least": scale.least,
            "full": scale.full,
            "warm": optimize is Objective.WARM,
            "marks": [*marks, *_phones(scale)],
        },
        {
            "percent": np.array(percents, np.float64),
            "timeMs": np.array(times, np.float64),
            "coldMs": np.array([one.plan.predicted.cold_ms for one in places], np.float64),
            "overTime": np.concatenate([one.over_time for one in places]).astype(np.float32),
            "overLayers": np.concatenate([one.over_layers for one in places]).astype(np.float32),
        },
    )


def knee(percents: Sequence[float], times: Sequence[float]) -> float | None:
    """Where a falling curve is farthest below the line from its first to its last point.

    The method is Kneedle's (Satopaa et al., 2011). None where the times hardly differ, or where
    the curve lies nowhere below that line.
    """
    x, y = np.array(percents), np.array(times)
    if len(x) < 3 or y[0] - y[-1] < _FLAT * y[0]:
        return None
    below = 1 - (x - x[0]) / (x[-1] - x[0]) - (y - y[-1]) / (y[0] - y[-1])
    best = int(below.argmax())
    return float(x[best]) if below[best] > _FLAT else None


def _phones(scale: Scale) -> list[tuple[float, str, str]]:
    """The memory of known phones and boards that hold the model in part only."""
    names: dict[int, list[str]] = {}
    for spec in simulated_devices().values():
        memory = spec.limits.global_memory
        _, _, owner = spec.name.partition(" (")  # "Adreno 750 (OnePlus 12)"
        if owner and scale.least < memory < scale.full:
            names.setdefault(memory, []).append(owner.rstrip(")"))
    return [
        (scale.percent(memory), ", ".join(found), "all the memory of " + ", ".join(found))
        for memory, found in sorted(names.items())
    ]


class Sweeper:
    """Makes the plans of `_PLACES` one at a time, between the kernel's other work.

    Where no event loop runs there is no pointer to preview for, and nothing is planned.

    Args:
        tell: called with `sweep_data` of the places so far, a few times.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._key: object = None
        self._planner: Planner | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._after = 0.0

    def start(self, planner: Planner, choice: Choice) -> None:
        """Plans along the scale, unless that was begun for the same choices and edits.

        Args:
            planner: makes the plans, within the edits of its history.
            choice: what the controls say, but for the budget.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        key = (planner, replace(choice, percent=0.0), planner.history.current)
        if key == self._key:
            return
        self.cancel()
        self._key = key
        if planner is not self._planner:  # else what is known stays until more is
            self._planner = planner
            self._tell(b"")
        places: list[Place] = []
        waiting = list(_PLACES)

        def step() -> None:
            if monotonic() < self._after:
                self._timer = loop.call_later(self._after - monotonic(), step)
                return
            percent = waiting.pop(0)
            with suppress(FlashMemError):  # no room for the edits: the preview spans the gap
                plan = planner.quick(replace(choice, percent=percent))
                places.append(place(percent, plan, preview(planner.prepared, plan)))
            if len(_PLACES) - len(waiting) in _TELL and len(places) > 1:
                self._tell(sweep_data(places, planner.scale, choice.optimize))
            self._timer = loop.call_later(_PAUSE, step) if waiting else None

        self._timer = loop.call_later(_PAUSE, step)

    def hold(self) -> None:
        """The slider moves: its own plans come first."""
        self._after = monotonic() + _QUIET

    def cancel(self) -> None:
        """Makes no further plan, and forgets for what it made them."""
        self._key = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
