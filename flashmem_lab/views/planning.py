"""The plan of the controls as they are: a budget on a fixed scale, edits, quick plans first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flashmem_lab.device import Transport
from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan import Constraints, Prices
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.incumbent import Effort
from flashmem_lab.plan.plan import Objective, Plan, Strategy
from flashmem_lab.units import Budget
from flashmem_lab.views.edits import Edit, Edits, History, edited
from flashmem_lab.worker.planning import Ask

if TYPE_CHECKING:
    from flashmem_lab.views.engine import Engine
    from flashmem_lab.worker.jobs import Planned
    from flashmem_lab.worker.process import Stop
    from flashmem_lab.workflow import Prepared

PRICE = Prices().lambda_
"""Of pinned bytes against prefetched ones, as the paper has it: memory first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the controls say.

    Attributes:
        device: its id.
        precision: of the weights on it.
        strategy: who makes the plan.
        optimize: what is made least.
        percent: from the least feasible budget (0) to full preload (100).
        lambda_: price of pinned bytes, 0 to 1, where memory is made least.
        transport: how bytes move, or "" for the device's own way.
        chunk_bytes: how much of a weight moves at once.
    """

    device: str
    precision: Precision
    strategy: Strategy
    optimize: Objective
    percent: float
    lambda_: float = PRICE
    transport: str = ""
    chunk_bytes: int = CHUNK_BYTES

    def ask(self, budget: Budget, constraints: Constraints | None = None) -> Ask:
        """The same for the planner."""
        return Ask(
            budget=budget,
            strategy=self.strategy,
            optimize=self.optimize,
            constraints=constraints,
            transport=Transport(self.transport) if self.transport else None,
            chunk_bytes=self.chunk_bytes,
            prices=Prices(lambda_=self.lambda_),
        )


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
    """

    def __init__(self, engine: Engine, prepared: Prepared, history: History) -> None:
        self._engine = engine
        self.prepared = prepared
        self.history = history
        self._baselines: dict[tuple[Strategy, str, int], Plan] = {}
        self._scales: dict[tuple[str, int], Scale] = {}

    @property
    def edits(self) -> Edits | None:
        """What was asked for by hand, to be kept; None where nothing ever was."""
        if len(self.history.states) == 1:
            return None
        device, precision = self.prepared.device.id, self.prepared.model.precision
        return Edits(device, precision, self.history.states, self.history.at)

    def scale(self, choice: Choice) -> Scale:
        """Of the budget; the staging ring that bytes move through is part of it."""
        key = (choice.transport, choice.chunk_bytes)
        if key not in self._scales:
            greedy = replace(choice, strategy=Strategy.GREEDY)
            least = self._engine.make_plan(self.prepared, greedy.ask(Budget(share=0)))
            self._scales[key] = Scale(least.min_budget_bytes, least.preload_peak_bytes)
        return self._scales[key]

    def percent(self, choice: Choice, budget: Budget) -> float:
        """Where `budget` lies on the scale; beyond full preload is its end.

        Raises:
            BudgetTooSmall: it is less than the least feasible one.
        """
        if budget.share is not None:
            return 100 * budget.share
        scale, wanted = self.scale(choice), budget.bytes or 0
        if wanted < scale.least:
            self._engine.make_plan(self.prepared, choice.ask(budget))  # says what needs more
        return scale.percent(wanted)

    def quick(self, choice: Choice, constraints: Constraints | None = None) -> Plan:
        """A plan within milliseconds: greedy where the solver was asked for.

        Args:
            choice: what the controls say.
            constraints: those of `history` by default.

        Raises:
            FlashMemError: the budget or the edits cannot be.
        """
        return self._engine.make_plan(self.prepared, self._ask(_quickly(choice), constraints))

    def better(self, choice: Choice, effort: Effort) -> Plan:
        """The solver's plan, within seconds; for a thread.

        Raises:
            FlashMemError: the budget or the edits cannot be.
        """
        return self._engine.make_plan(self.prepared, self._ask(choice), effort)

    def each(
        self, choice: Choice, percents: Sequence[float], hear: Callable[[Planned], None], stop: Stop
    ) -> None:
        """Quick plans along the scale; for a thread. See `Engine.plan_each`."""
        choices = [replace(_quickly(choice), percent=percent) for percent in percents]
        asks = [self._ask(one) for one in choices]
        self._engine.plan_each(self.prepared, asks, hear, stop)

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

    def baseline(self, choice: Choice, strategy: Strategy) -> Plan:
        """What a strategy without choices makes of the model where memory is no matter."""
        key = (strategy, choice.transport, choice.chunk_bytes)
        if key not in self._baselines:
            ask = replace(choice, strategy=strategy).ask(Budget(share=1))
            self._baselines[key] = self._engine.make_plan(self.prepared, ask)
        return self._baselines[key]

    def _ask(self, choice: Choice, constraints: Constraints | None = None) -> Ask:
        return choice.ask(
            Budget(bytes=self.scale(choice).bytes(choice.percent)),
            self.history.current if constraints is None else constraints,
        )


def _quickly(choice: Choice) -> Choice:
    """The same within milliseconds: the solver takes seconds."""
    solver = choice.strategy is Strategy.LC_OPG
    return replace(choice, strategy=Strategy.GREEDY) if solver else choice
