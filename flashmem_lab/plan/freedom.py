"""What constraints leave to the planners."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flashmem_lab.errors import UsageError
from flashmem_lab.plan.constraints import Constraints
from flashmem_lab.plan.problem import Ints, Mask, Problem


@dataclass(frozen=True, slots=True, eq=False)
class Freedom:
    """Constraints as arrays over the weights of a problem.

    Attributes:
        forced: (n,) True for weights that must be pinned.
        never: (n,) True for weights that must not be.
        earliest, latest: (n,) first and last step at which an unpinned weight's object may be
            made; 0 and its first use where no window says otherwise.
        windowed: True if some window is narrower than that.
    """

    forced: Mask
    never: Mask
    earliest: Ints
    latest: Ints
    windowed: bool


def freedom(problem: Problem, constraints: Constraints) -> Freedom:
    """The constraints over `problem`.

    Raises:
        UsageError: a name is not a weight held on the device, two demands contradict each other,
            or a window is empty or ends after the weight's first use.
    """
    forced = problem.mask(constraints.preload)
    never = problem.mask(constraints.stream)
    _refuse_both(problem, forced & never, "be preloaded and streamed")
    earliest, latest = np.zeros_like(problem.first), problem.first.copy()
    windows = problem.mask(window.weight for window in constraints.windows)
    _refuse_both(problem, forced & windows, "be preloaded and be loaded in a window")
    _refuse_twice(window.weight for window in constraints.windows)
    for window in constraints.windows:
        at = problem.index[window.weight]
        if not 0 <= window.first <= window.last <= problem.first[at]:
            raise UsageError(
                f"{window.weight!r} cannot be loaded between layers {window.first} and "
                f"{window.last}: layer {problem.first[at]} is the first that uses it",
                hint=f"a window within 0:{problem.first[at]}",
            )
        earliest[at], latest[at] = window.first, window.last
    return Freedom(forced, never | windows, earliest, latest, bool(constraints.windows))


def _refuse_both(problem: Problem, clash: Mask, what: str) -> None:
    if clash.any():
        name = problem.weights[int(np.flatnonzero(clash)[0])]
        raise UsageError(f"{name!r} cannot {what}", hint="drop one of the two demands")


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"{name!r} has two windows", hint="give one")
        seen.add(name)
