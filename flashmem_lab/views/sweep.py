"""Plans along the scale of budgets: what the browser previews with, and the slider's marks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.device import simulated_devices
from flashmem_lab.plan import Constraints, Objective, Plan
from flashmem_lab.views.planning import Choice, Planner, Scale
from flashmem_lab.views.running import Runner
from flashmem_lab.views.wire import encode
from flashmem_lab.worker.jobs import Message, Planned
from flashmem_lab.worker.sketch import Sketch

SCHEMA = "flashmem-lab/sweep-view/1"

# Percent of the scale, coarse to fine: what is known after 3, 5, 9 or 17 of them is spread evenly.
_PLACES = tuple(
    100 * at / parts
    for parts, ats in ((1, (0, 1)), (2, (1,)), (4, (1, 3)), (8, (1, 3, 5, 7)))
    for at in ats
) + tuple(100 * at / 16 for at in range(1, 16, 2))
_TELL = (3, 5, 9, len(_PLACES))
_QUIET = 0.5  # s without a move of the slider before plans are made for elsewhere
_FLAT = 0.02  # a time that changes by less than this share along the scale has no knee


@dataclass(frozen=True, slots=True)
class Place:
    """One budget's plan, and what it would hold."""

    percent: float
    plan: Plan
    sketch: Sketch


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
            "overTime": _joined([one.sketch.over_time for one in places]),
            "overLayers": _joined([one.sketch.over_layers for one in places]),
        },
    )


def _joined(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    return np.concatenate(curves).astype(np.float32)


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
    """Has the plans of `_PLACES` made, while nothing else is wanted of the machine.

    Where no event loop runs there is no pointer to preview for, and nothing is planned.

    Args:
        tell: called with `sweep_data` of the places so far, a few times.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._asked: tuple[Planner, Choice, Constraints] | None = None
        self._planner: Planner | None = None  # whose plans are previewed with
        self._waiting: list[float] = []
        self._going: tuple[float, ...] = ()  # of those that wait, the ones asked for
        self._places: list[Place] = []
        self._runner: Runner[None] = Runner(self._heard, lambda job: None)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, planner: Planner, choice: Choice) -> None:
        """Plans along the scale, unless that was begun for the same choices and edits.

        Args:
            planner: makes the plans, within the edits of its history.
            choice: what the controls say, but for the budget.
        """
        asked = (planner, replace(choice, percent=0.0), planner.history.current)
        if asked == self._asked or not _has_loop():
            return
        self.cancel()
        self._asked, self._waiting, self._places = asked, list(_PLACES), []
        if planner is not self._planner:  # else what is known stays until more is
            self._planner = planner
            self._tell(b"")
        self._go()

    def hold(self) -> None:
        """The slider moves: its own plans come first."""
        self._runner.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and _has_loop():
            self._timer = asyncio.get_running_loop().call_later(_QUIET, self._go)

    def cancel(self) -> None:
        """Makes no further plan, and forgets for what it made them."""
        self._asked, self._waiting = None, []
        self.hold()

    def _go(self) -> None:
        """Has those made that wait; each is told in the kernel's thread."""
        assert self._asked is not None, "there are none that wait"
        planner, choice, _ = self._asked
        percents = self._going = tuple(self._waiting)
        self._timer = None
        self._runner.start(lambda hear, stop: planner.each(choice, percents, hear, stop))

    def _heard(self, message: Message) -> None:
        if self._asked is None or not isinstance(message, Planned):
            return
        planner, choice, _ = self._asked
        percent = self._going[message.at]
        self._waiting.remove(percent)
        if message.found is not None:  # else no room for the edits: the preview spans the gap
            self._places.append(Place(percent, *message.found))
        if len(_PLACES) - len(self._waiting) in _TELL and len(self._places) > 1:
            self._tell(sweep_data(self._places, planner.scale(choice), choice.optimize))


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
