"""Edits of a schedule where they are made: planned again, refused in place, undone, compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from flashmem_lab.errors import FlashMemError
from flashmem_lab.plan import Constraints
from flashmem_lab.plan.plan import Strategy
from flashmem_lab.views import markup
from flashmem_lab.views.diff import plan_diff
from flashmem_lab.views.edits import Edit, History

if TYPE_CHECKING:
    from flashmem_lab.plan import Plan
    from flashmem_lab.views.planning import Choice, Planner
    from flashmem_lab.views.schedule import ScheduleView


class Host(Protocol):
    """The workbench, as edits see it."""

    @property
    def choice(self) -> Choice:
        """What the controls say."""
        ...

    def current(self) -> tuple[Planner, Plan | None] | None:
        """Who plans and what is shown, by now; None while the model is lowered anew."""
        ...

    def take(self, planner: Planner, plan: Plan, before: Plan | None) -> None:
        """Shows the plan after an edit, and goes on from there."""
        ...

    def replan(self) -> None:
        """Plans for the edits as they are."""
        ...


class Editing:
    """Takes edits from the schedule, and says there what came of them.

    Args:
        host: makes and shows plans.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._schedule: ScheduleView | None = None
        self._before: Plan | None = None  # what an edit made the plan from
        self._refused: tuple[str, str] | None = None  # a weight, and why its edit cannot be

    def begin(self, schedule: ScheduleView) -> None:
        """The schedule is there."""
        self._schedule = schedule
        schedule.observe(self._chosen, names="against")

    def forget(self) -> None:
        """Another plan is made: what was refused for the one before is no matter."""
        self._refused = None

    def edited(self, edit: Edit) -> None:
        """Plans again under an edit; one that cannot be is refused where it was made."""
        current = self._host.current()
        if current is None:
            return  # the schedule that was edited is of another device
        planner, before = current
        self._refused = None
        try:
            plan = planner.edit(self._host.choice, edit)
        except FlashMemError as error:
            self._refused = edit.weight, markup.advice(error)
            self._say(planner.history)
        else:
            self._host.take(planner, plan, before)

    def moved(self, by: int) -> None:
        """Undoes (-1) or redoes (1) an edit, or drops all of them (0)."""
        current = self._host.current()
        if current is None:
            return
        planner, _ = current
        if by == 0:
            planner.history.push(Constraints())
        else:
            planner.history.move(by)
        self._host.replan()

    def compare(self, planner: Planner, plan: Plan, before: Plan | None) -> None:
        """Says in what a plan is another than that before it, the planner's own, a baseline."""
        assert self._schedule is not None, "there is a plan before there is a schedule"
        self._before = before
        choice = self._host.choice
        compared = [
            ("Against the plan before:", before),
            ("Against the planner's own:", planner.own(choice)),
        ]
        if name := self._schedule.against:
            compared.append((f"Against {name}:", planner.baseline(choice, Strategy(name))))
        diff = [(what, plan_diff(one, plan)) for what, one in compared if one is not None]
        self._say(planner.history, diff)

    def nothing(self, planner: Planner) -> None:
        """There is no plan to compare, whoever moved what; the controls say why."""
        self._say(planner.history)

    def _chosen(self, change: Any) -> None:
        """Another baseline was chosen."""
        current = self._host.current()
        if current is not None and current[1] is not None:
            self.compare(current[0], current[1], self._before)

    def _say(self, history: History, diff: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        """Words on the schedule, and what can be undone."""
        assert self._schedule is not None, "edits come from it"
        self._schedule.say(
            diff, refused=self._refused, can_undo=history.can_undo, can_redo=history.can_redo
        )
