"""What is on a workbench's screen: the plan that is chosen, a quick one first, and its run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flashmem_lab.errors import FlashMemError
from flashmem_lab.plan.plan import Strategy
from flashmem_lab.trace import summarize
from flashmem_lab.views import markup
from flashmem_lab.views.controls import Controls
from flashmem_lab.views.editing import Editing
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.exports import ExportsView, Subject
from flashmem_lab.views.loading import Planners, Source
from flashmem_lab.views.pages import Pages, Scene
from flashmem_lab.views.planning import Choice, Planner, Scale
from flashmem_lab.views.queue import QueueView
from flashmem_lab.views.recipe import Recipe
from flashmem_lab.views.refine import Refiner
from flashmem_lab.views.sweep import Sweeper
from flashmem_lab.views.throttle import Throttle
from flashmem_lab.worker.sketch import preview

if TYPE_CHECKING:
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.prepared import Prepared

_DRAW_SECONDS = 0.01  # in which the kernel hears what else the slider said


class Screen:
    """Has a plan made whenever another is chosen, and shows it in every picture.

    Args:
        engine: plans, and writes bundles.
        source: what is opened.
        planners: have the model lowered for each device and precision.
        controls: say what to plan for, and what came of it.
        queue: the tab of several models.
        keep: called when what was chosen or edited is worth keeping.

    Attributes:
        pages: the pictures.
        exports: what can be taken away.
        plan: that is shown; None where there is none.
        outcome: of the run that belongs to it; None before it ran.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        planners: Planners,
        controls: Controls,
        queue: QueueView,
        keep: Callable[[], None],
    ) -> None:
        self._source, self._planners, self._controls = source, planners, controls
        self._keep = keep
        self._editing = Editing(self)
        self.pages = Pages(self._editing.edited, self._editing.moved, queue)
        self._editing.begin(self.pages.schedule)
        self.exports = ExportsView(engine, self.subject)
        self.plan: Plan | None = None
        self.outcome: Outcome | None = None
        self._problem: FlashMemError | None = None  # of what was asked for to begin with
        self._loading: Choice | None = None  # what the model is lowered for meanwhile
        self._refiner = Refiner()
        self._sweeper = Sweeper(self.pages.preview)
        self._throttle = Throttle(self._refresh, _DRAW_SECONDS)

    @property
    def choice(self) -> Choice:
        """See `Host.choice`."""
        return self._controls.choices.choice

    def begin(self, problem: FlashMemError | None = None) -> None:
        """The model is there for what is chosen: from now on the slider is followed.

        Args:
            problem: why that is not what was asked for; said until something else is chosen.
        """
        slider = self._controls.choices.slider
        self.pages.follow(slider)
        slider.observe(self._grasped, names="moving")
        self._refresh()
        if problem is not None:
            self._problem = problem
            self._controls.fail(problem)

    def request(self) -> None:
        """Another plan is wanted, soon."""
        self._throttle.request()

    def flush(self) -> None:
        """Makes the plan that is wanted now, if any is."""
        self._throttle.flush()

    def loaded(self, error: BaseException | None) -> None:
        """The model was lowered for another device or precision, or could not be.

        What is shown is what is chosen by now, whatever it was when that began.
        """
        if error is None or self.choice != self._loading:
            self._refresh()
        else:
            self._nothing(error)

    def to_run(self) -> tuple[Prepared, Plan] | None:
        """The plan that is shown, which stays there while it runs; None where there is none."""
        subject = self.subject()
        if subject is None:
            return None
        self._refiner.cancel()
        return subject.prepared, subject.plan

    def ran(self, outcome: Outcome) -> None:
        """Draws what a run measured; where another plan is shown by now it is no matter."""
        subject = self.subject()
        if subject is not None and outcome.plan == subject.plan:
            self.outcome = outcome
            self.show_exports()
            trace = outcome.result.trace
            self.pages.show(Scene(subject.prepared, subject.plan, outcome.predicted, trace))

    def subject(self) -> Subject | None:
        """What is shown, to be run or taken away; None where there is no plan."""
        planner = self._planners.get(self.choice)
        if planner is None or self.plan is None:
            return None
        return Subject(self._source.model, planner.prepared, self.plan, self.outcome)

    def show_exports(self) -> None:
        """Text to copy follows what is clicked."""
        recipe = None
        if self.plan is not None:
            bar = self._controls.run_bar
            check = bar.check and not self.plan.device.startswith("sim:")
            recipe = Recipe(self._source, self.choice, self.plan, bar.repeat, check)
        self.exports.show(recipe, measured=self.outcome is not None)

    def close(self) -> None:
        """Plans no more, detaches the listeners and removes the pictures."""
        self._throttle.cancel()
        self._refiner.cancel()
        self._sweeper.cancel()
        self._controls.choices.slider.unobserve(self._grasped, names="moving")
        self.exports.close()
        self.pages.close()

    # --- for edits of the schedule ---------------------------------------------------------

    def current(self) -> tuple[Planner, Plan | None] | None:
        """See `Host.current`."""
        self.flush()
        planner = self._planners.get(self.choice)
        return None if planner is None else (planner, self.plan)

    def take(self, planner: Planner, plan: Plan, before: Plan | None) -> None:
        """See `Host.take`."""
        self._problem = None
        self._keep()
        self._show(planner, plan, before)
        self._refine(planner, self.choice, before)

    def replan(self) -> None:
        """See `Host.replan`."""
        self._refresh()

    # --- planning --------------------------------------------------------------------------

    def _grasped(self, change: Any) -> None:
        """The kernel is free for the plan of where the slider will rest."""
        if change.new:
            self._refiner.cancel()
            self._sweeper.hold()
        else:
            self.request()  # even where it is back at its place, for the solver

    def _refresh(self) -> None:
        """Plans for the controls as they are and draws the prediction."""
        self._sweeper.hold()
        self._editing.forget()
        self._problem = None
        choice = self.choice
        planner = self._planners.get(choice)
        if planner is None:
            self._load(choice)
            return
        try:
            plan = planner.quick(choice)
        except FlashMemError as error:
            self._introduce(planner)
            self._nothing(error)
            self._editing.nothing(planner)
        else:
            self._show(planner, plan)
            self._refine(planner, choice)
        self._keep()  # last: somebody waits for the picture

    def _load(self, choice: Choice) -> None:
        """Has the model lowered for another device or precision; `loaded` goes on."""
        self._refiner.cancel()
        self._sweeper.cancel()
        self.plan = self.outcome = None
        self._controls.wait(f"choosing kernels for {choice.device} in {choice.precision} …")
        if not self._planners.busy:
            self._loading = choice
            with suppress(FlashMemError):  # where no event loop runs; it is shown in place
                self._planners.load(choice)

    def _nothing(self, error: BaseException) -> None:
        """There is no plan, and why."""
        self._refiner.cancel()
        self.plan = self.outcome = None
        self.pages.show(None)
        self.show_exports()
        self._controls.nothing(error)

    def _refine(self, planner: Planner, choice: Choice, before: Plan | None = None) -> None:
        """Lets the solver improve on the plan that is shown, in the background."""
        self._refiner.cancel()
        if choice.strategy is Strategy.LC_OPG:
            self._controls.run_bar.say("the solver looks for a better plan …")
            self._refiner.start(
                lambda effort: planner.better(choice, effort),
                lambda plan: self._show(planner, plan, before),
            )

    def _introduce(self, planner: Planner) -> Scale:
        """Shows what is known of a model without any plan; the scale of its budgets."""
        model, scale = planner.prepared.model, planner.scale(self.choice)
        self._controls.introduce(markup.summary(model, summarize(model)))
        self._controls.choices.slider.ends = [scale.least, scale.full]
        self.pages.introduce(planner.prepared)
        return scale

    def _show(self, planner: Planner, plan: Plan, before: Plan | None = None) -> None:
        """Shows a plan; `before` is the one that an edit made it from."""
        prepared = planner.prepared
        self.plan, self.outcome = plan, None
        scale = self._introduce(planner)
        self.pages.show(Scene(prepared, plan, preview(prepared, plan)))
        self.show_exports()
        self._sweeper.start(planner, self.choice)
        sizes = {name: weight.device_bytes for name, weight in prepared.model.weights.items()}
        self._controls.show(
            budget=markup.budget(plan, scale.percent(plan.budget_bytes)),
            prediction=markup.prediction(plan, sum(sizes[one.weight] for one in plan.streamed)),
        )
        if self._problem is not None:
            self._controls.fail(self._problem)
        self._editing.compare(planner, plan, before)
