"""What people ask of a schedule by hand: edits as constraints, undone and redone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan import Constraints
from flashmem_lab.plan.constraints import Window


class Action(StrEnum):
    """What is asked for one weight; mirrored in widgets/src/core/schedule.ts."""

    PRELOAD = "preload"
    STREAM = "stream"
    WINDOW = "window"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit; `first` and `last` are the layers of a window, at one of which the load begins."""

    action: Action
    weight: str
    first: int = 0
    last: int = 0


def edited(constraints: Constraints, edit: Edit) -> Constraints:
    """The constraints after an edit, which takes the place of what was asked for that weight."""
    kept = replace(
        constraints,
        preload=tuple(name for name in constraints.preload if name != edit.weight),
        stream=tuple(name for name in constraints.stream if name != edit.weight),
        windows=tuple(one for one in constraints.windows if one.weight != edit.weight),
    )
    match edit.action:
        case Action.PRELOAD:
            return replace(kept, preload=(*kept.preload, edit.weight))
        case Action.STREAM:
            return replace(kept, stream=(*kept.stream, edit.weight))
        case Action.WINDOW:
            window = Window(edit.weight, edit.first, edit.last)
            return replace(kept, windows=(*kept.windows, window))
        case Action.FREE:
            return kept


class History:
    """Constraints after each edit; what is done after an undo drops what was undone.

    Args:
        states: to begin with.
        at: the one of them that holds.
    """

    def __init__(self, states: Sequence[Constraints] = (Constraints(),), at: int = 0) -> None:
        self._states = list(states)
        self._at = at

    @property
    def states(self) -> tuple[Constraints, ...]:
        """The constraints after each edit, the first ones before any."""
        return tuple(self._states)

    @property
    def at(self) -> int:
        """Which of `states` holds."""
        return self._at

    @property
    def current(self) -> Constraints:
        """The constraints that hold now."""
        return self._states[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether an edit was taken back."""
        return self._at + 1 < len(self._states)

    def push(self, constraints: Constraints) -> None:
        """An edit was made."""
        if constraints != self.current:
            self._states = [*self._states[: self._at + 1], constraints]
            self._at += 1

    def move(self, by: int) -> None:
        """Takes edits back (`by` below 0) or makes them again."""
        self._at = min(max(0, self._at + by), len(self._states) - 1)


@dataclass(frozen=True, slots=True)
class Edits:
    """What was asked of the schedule on one device, with what was before and what was undone.

    Attributes:
        device, precision: whose plans they are part of.
        states: the constraints after each edit.
        at: the state that holds.
    """

    device: str
    precision: Precision
    states: tuple[Constraints, ...]
    at: int
