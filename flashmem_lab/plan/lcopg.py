"""Which weights to pin, as a mixed-integer program; the only user of OR-Tools.

What the structure of the problem gives for nothing (see `greedy.latest_loads` and
`room.earliest_loads`): once W is known, the best schedule is known. So the solver decides W alone,
on bytes in order of use instead of on chunks of single weights, and what it finds bounds every
plan. For `cold` W does not matter; nothing is solved (`score.cold_bound` is tight there).

The solver is SCIP, which OR-Tools brings along. Measured 2026-11 on 2 busy cores, warm objective,
the same constraints in units of 4 KiB for CP-SAT, 10 s each: GPT-Neo-1.3B at a budget of 60 %, SCIP
proves 742.4 ms and CP-SAT 726.2, which is the linear relaxation; ViT at 30 %, SCIP 84.03 ms (in
2.5 s) and CP-SAT 83.2 at best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.pins import MEGA, PinProgram
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Floats, Mask, Problem

SAFETY = 1e-6
"""Share taken off the solver's bounds: its constraints hold within 1e-6 only."""


SOLVED = 1e-3
"""Relative gap at which the solver ends: what rounding objects to whole ones costs is more."""


SETTINGS = f"limits/gap = {SOLVED}\nrandomization/randomseedshift = 1\n"
"""Of SCIP."""


POLL_S = 0.05
"""Time between two questions whether to stop, seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What the solver says.

    Attributes:
        pinned: (n,) share of each weight in W, 0 or 1 unless it is of a relaxation; None if it
            found none in time.
        bound: no plan costs less; bytes for memory, ns for warm.
    """

    pinned: Floats | None
    bound: float


class Chooser:
    """Chooses W, in a thread of its own if wished.

    Args:
        problem: the model on a device.
        free: what is not decided yet.
        budget: bytes held at once.
        optimize: memory or warm.
        price: lambda of the memory objective.
        relaxed: True to let weights be pinned in part, which takes milliseconds.
        least, most: bytes that are pinned; leaving some leaves room for whole objects to stream.
        ceiling: plans that cost more are of no interest, nor is a bound above it.
        enough: a bound at which the solver ends.
        whole: True to decide which objects have begun at each layer (warm): slower, and stronger
            the more bytes are known to be pinned.
        hint: (n,) a W to start from.
        time_s: limit.
    """

    def __init__(
        self,
        problem: Problem,
        free: Freedom,
        budget: int,
        optimize: Objective,
        *,
        price: float,
        relaxed: bool = False,
        least: float = 0.0,
        most: float = np.inf,
        ceiling: float = np.inf,
        enough: float = np.inf,
        whole: bool = False,
        hint: Mask | None = None,
        time_s: float = 10.0,
    ) -> None:
        from ortools.linear_solver import pywraplp

        self._solver = pywraplp.Solver.CreateSolver("GLOP" if relaxed else "SCIP")
        self._solver.SetTimeLimit(max(1, round(time_s * 1e3)))
        if not relaxed:
            self._solver.SetSolverSpecificParametersAsString(SETTINGS)
        self._ceiling = ceiling
        self._impossible = pywraplp.Solver.INFEASIBLE
        self._good = (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE)
        self._optimal = pywraplp.Solver.OPTIMAL
        self._relaxed = relaxed
        program = PinProgram(self._solver, problem, free, budget, relaxed=relaxed)
        program.pin_between(least, most)
        if optimize is Objective.WARM:
            program.warm(whole=whole)
        else:
            program.memory(price)
        if np.isfinite(enough) and not relaxed:
            limit = enough / MEGA / (1 - SAFETY) ** 2 - program.offset
            self._solver.SetSolverSpecificParametersAsString(f"{SETTINGS}limits/dual = {limit}\n")
        if hint is not None and not relaxed:
            self._solver.SetHint(program.pinned, hint.astype(float).tolist())
        self._program = program
        self._status: int | None = None
        self._thread: Thread | None = None

    def idle(self) -> bool:
        """Not at work in the background, or no longer."""
        return self._thread is None or not self._thread.is_alive()

    def start(self) -> None:
        """Solves in the background."""
        self._thread = Thread(target=self._solve, name="lc-opg", daemon=True)
        self._thread.start()

    def wait(self, stop: Callable[[], bool]) -> None:
        """Waits for the solver; ends it when `stop` says so."""
        while self._thread is not None and not self.idle() and not stop():
            self._thread.join(POLL_S)
        self.stop()

    def stop(self) -> None:
        """Asks the solver to end, and waits for it."""
        while self._thread is not None and not self.idle():
            self._solver.InterruptSolve()
            self._thread.join(POLL_S)

    def _solve(self) -> None:
        self._status = self._solver.Solve()

    def result(self) -> Choice:
        """What was found; solves here and now if `start` was not called."""
        if self._thread is None:
            self._solve()
        else:
            self._thread.join()
        if self._status == self._impossible:
            return Choice(None, self._ceiling)
        found = self._status in self._good
        pinned = self._program.choice() if found else None
        if self._relaxed:
            bound = self._solver.Objective().Value() if self._status == self._optimal else 0.0
        else:
            bound = self._solver.Objective().BestBound() if found else 0.0
        bound += self._program.offset
        return Choice(pinned, min(self._ceiling, max(0.0, bound * MEGA * (1 - SAFETY))))
