"""The plan of the controls as they are: a budget on a fixed scale, edits, quick plans first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan import Constraints
from flashmem_lab.plan.incumbent import Effort
from flashmem_lab.plan.plan import Objective, Plan, Strategy
from flashmem_lab.units import Budget
from flashmem_lab.views.edits import Edit, Edits, History, edited

if TYPE_CHECKING:
    from flashmem_lab.views.engine import Engine
    from flashmem_lab.workflow import Prepared


@dataclass(frozen=True, slots=True)
class Choice:
    """What the controls say; `percent` runs from the least feasible budget to full preload."""

    device: str
    precision: Precision
    strategy: Strategy
    optimize: Objective
    percent: float


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of the budget's slider, bytes: without any edit, so that edits do not move it."""

    least: int
    full: int

    def bytes(self, percent: float) -> int:
        """The budget at a place of the slider."""
        return self.least + round((self.full - self.least) * percent / 100)

    def percent(self, budget: int) -> float:
        """Where a budget lies; beyond full preload is the end."""
        span = self.full - self.least
        return min(100.0, 100 * (budget - self.least) / span) if span > 0 else 100.0


class Planner:
    """Makes plans for one model on one device.

    Args:
        engine: makes plans.
        prepared: the model on the device.
        history: what was asked for by hand.

    Attributes:
        history: the same, as it grows.
        scale: of the budget.
    """

    def __init__(self, engine: Engine, prepared: Prepared, history: History) -> None:
        self._engine = engine
        self.prepared = prepared
        self.history = history
        self._baselines: dict[Strategy, Plan] = {}
        least = engine.make_plan(prepared, budget=Budget(share=0))
        self.scale = Scale(least.min_budget_bytes, least.preload_peak_bytes)

    @property
    def edits(self) -> Edits | None:
        """What was asked for by hand, to be kept; None where nothing ever was."""
        if len(self.history.states) == 1:
            return None
        device, precision = self.prepared.device.id, self.prepared.model.precision
        return Edits(device, precision, self.history.states, self.history.at)

    def quick(self, choice: Choice, constraints: Constraints | None = None) -> Plan:
        """A plan within milliseconds: greedy where the solver was asked for.

        Args:
            choice: what the controls say.
            constraints: those of `history` by default.

        Raises:
            FlashMemError: the budget or the edits cannot be.
        """
        solver = choice.strategy is Strategy.LC_OPG
        strategy = Strategy.GREEDY if solver else choice.strategy
        return self._plan(choice, strategy, constraints, None)

    def better(self, choice: Choice, effort: Effort) -> Plan:
        """The solver's plan, within seconds; for a thread.

        Raises:
            FlashMemError: the budget or the edits cannot be.
        """
        return self._plan(choice, choice.strategy, None, effort)

    def edit(self, choice: Choice, edit: Edit) -> Plan:
        """The quick plan after an edit, which is kept if there is one.

        Raises:
            FlashMemError: it cannot be; nothing is kept.
        """
        constraints = edited(self.history.current, edit)
        plan = self.quick(choice, constraints)
        self.history.push(constraints)
        return plan

    def own(self, choice: Choice) -> Plan | None:
        """The plan without edits, to compare with; None where there are none, or no such plan."""
        if not self.history.current:
            return None
        try:
            return self.quick(choice, Constraints())
        except FlashMemError:
            return None

    def baseline(self, strategy: Strategy) -> Plan:
        """What a strategy without choices makes of the model where memory is no matter."""
        if strategy not in self._baselines:
            whole = Budget(share=1)
            plan = self._engine.make_plan(self.prepared, budget=whole, strategy=strategy)
            self._baselines[strategy] = plan
        return self._baselines[strategy]

    def _plan(
        self,
        choice: Choice,
        strategy: Strategy,
        constraints: Constraints | None,
        effort: Effort | None,
    ) -> Plan:
        return self._engine.make_plan(
            self.prepared,
            budget=Budget(bytes=self.scale.bytes(choice.percent)),
            strategy=strategy,
            optimize=choice.optimize,
            constraints=self.history.current if constraints is None else constraints,
            effort=effort,
        )
