"""What people may demand of a plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A weight whose object is made, and whose load begins, at one of the layers first..last."""

    weight: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Constraints:
    """Demands on a plan.

    Attributes:
        preload: weights that must be pinned.
        stream: weights that must not be.
        windows: when the loads of some weights must begin; those are streamed.
    """

    preload: tuple[str, ...] = ()
    stream: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.preload or self.stream or self.windows)


NO_CONSTRAINTS = Constraints()
"""Everything is left to the planner."""
