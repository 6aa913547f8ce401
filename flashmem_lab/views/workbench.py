"""The workbench: a model, a budget to drag, the memory it would take, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan import Constraints
from flashmem_lab.plan.plan import Objective, Strategy
from flashmem_lab.trace import summarize
from flashmem_lab.units import Budget
from flashmem_lab.views import markup
from flashmem_lab.views.controls import Controls
from flashmem_lab.views.diff import plan_diff
from flashmem_lab.views.edits import Edit, History
from flashmem_lab.views.engine import Engine, preview
from flashmem_lab.views.exports import ExportsView, Subject
from flashmem_lab.views.kept import FIRST_PERCENT, Kept
from flashmem_lab.views.live import Live
from flashmem_lab.views.pages import Pages, Scene
from flashmem_lab.views.picker import Picker, working
from flashmem_lab.views.planning import Choice, Planner
from flashmem_lab.views.queue import QueueView
from flashmem_lab.views.recipe import Recipe
from flashmem_lab.views.refine import Refiner
from flashmem_lab.views.runs import Runs
from flashmem_lab.views.sweep import Sweeper
from flashmem_lab.views.throttle import Throttle

if TYPE_CHECKING:
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.views.graph import GraphView
    from flashmem_lab.views.memory import MemoryView
    from flashmem_lab.views.schedule import ScheduleView

_DRAW_SECONDS = 0.01  # in which the kernel hears what else the slider said


class Workbench:
    """Shows a model in a notebook, plans it under a budget as the slider moves, and runs it.

    Put it last in a cell, or show `widget` in a layout of your own. Everything that can be
    clicked can also be called: `set_budget`, `run`. Nothing is raised into the notebook by the
    controls: what fails is said in place.

    Args:
        model: path of the .onnx file.
        device: "auto", or an id such as "ocl:0", "adb:SERIAL" or "sim:adreno750".
        budget: "30%", "200MB" or "min", to start with.
        precision: "fp32" or "fp16", of the weights on the device.
        dims: values of symbolic dimensions, by name.
        shapes: shapes of inputs, by name.
        repeat: runs a press of Run makes; the first is cold.
        kept: what was done in an earlier workbench of this model; its edits are taken over.
        keep: called with what was done, whenever something was.
        engine: opens, plans and runs; by default every device is used in a child process, so
            that a driver that crashes takes nothing with it.

    Raises:
        FlashMemError: the model cannot be opened, or there is no such device.
        ValueError: `budget` or `precision` is none.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        device: str = "auto",
        budget: str = f"{FIRST_PERCENT:g}%",
        precision: str = "fp32",
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        repeat: int = 2,
        kept: Kept | None = None,
        keep: Callable[[Kept], None] | None = None,
        engine: Engine | None = None,
    ) -> None:
        if engine is None:
            from flashmem_lab.worker import isolated

            engine = isolated()
        self._engine: Engine = engine
        self._model, self._dims, self._shapes = Path(model), dims, shapes
        self._edits = {(one.device, one.precision): one for one in (kept.edits if kept else ())}
        self._keep = keep or (lambda kept: None)
        self._planners: dict[tuple[str, Precision], Planner] = {}
        self._refiner = Refiner()
        self._sweeper = Sweeper(lambda sweep: self._pages.preview(sweep))
        self._plan: Plan | None = None
        self._before: Plan | None = None  # what an edit made the plan from
        self._refused: tuple[str, str] | None = None  # a weight, and why its edit cannot be
        self._outcome: Outcome | None = None
        self._throttle = Throttle(self._refresh, _DRAW_SECONDS)

        wanted = Budget.parse(budget)
        states = self._engine.devices()
        spec = self._engine.open_device(device)
        first = Choice(spec.id, Precision(precision), Strategy.GREEDY, Objective.COLD, 0.0)
        live = Live()
        self._exports = ExportsView(self._subject)
        queue = QueueView(self._engine, self._model, dims or {}, lambda: self.choice)
        prepared = self._planner(first).prepared
        self._pages = Pages(prepared, self._edited, self._moved, queue)
        self._controls = Controls(
            devices=working(states),
            device=spec.id,
            precision=first.precision,
            repeat=repeat,
            can_check=find_spec("onnxruntime") is not None,
            live=live.box,
            pages=self._pages.box,
            exports=self._exports,
        )
        compare = self._pages.compare
        self._picker = picker = Picker(self._controls, states)
        self._runs = Runs(self._engine, self._controls, live, compare, self._ran, picker.found)
        if kept is not None:
            self._controls.strategy = kept.choice.strategy
            self._controls.optimize = kept.choice.optimize
        self._controls.percent = self._percent(first, wanted)
        self._pages.follow(self._controls.slider)
        self._controls.slider.observe(self._grasped, names="moving")
        self._pages.schedule.observe(self._compare, names="against")
        self._refresh()
        self._controls.listen(
            changed=self._throttle.request,
            how=self._show_exports,
            run=self._pressed,
            stop=self._runs.runner.cancel,
            look=self._runs.look,
        )

    # --- for people who would rather call than click ---------------------------------------

    @property
    def widget(self) -> Any:
        """The ipywidgets box that holds everything."""
        return self._controls.box

    @property
    def memory(self) -> MemoryView:
        """What is held, predicted and measured; `memory.mode` is what it is drawn over."""
        return self._pages.memory

    @property
    def graph(self) -> GraphView:
        """The model's graph; `graph.selected` is the node that is selected."""
        return self._pages.graph

    @property
    def plan(self) -> Plan | None:
        """The plan of the controls as they are; None where there is none."""
        self._throttle.flush()
        return self._plan

    @property
    def outcome(self) -> Outcome | None:
        """The run that belongs to this plan; None before it ran."""
        return self._outcome

    @property
    def choice(self) -> Choice:
        """What the controls say."""
        controls = self._controls
        return Choice(
            device=controls.device,
            precision=controls.precision,
            strategy=controls.strategy,
            optimize=controls.optimize,
            percent=controls.percent,
        )

    @property
    def schedule(self) -> ScheduleView:
        """The life of every weight; its edits become constraints of the plan."""
        return self._pages.schedule

    @property
    def kept(self) -> Kept:
        """What was done here, to go on with in another workbench."""
        made = {key: planner.edits for key, planner in self._planners.items()}
        known = {**self._edits, **{key: one for key, one in made.items() if one is not None}}
        return Kept(self.choice, dict(self._dims or {}), tuple(known.values()))

    def set_budget(self, budget: str) -> None:
        """Moves the slider to "30%", "200MB" or "min".

        Raises:
            ValueError: not a budget.
            FlashMemError: less than the least feasible budget.
        """
        self._controls.percent = self._percent(self.choice, Budget.parse(budget))
        self._throttle.flush()

    def run(self, *, wait: bool = False) -> Outcome | None:
        """Runs the plan in a thread; with `wait`, until it is done.

        Returns:
            The outcome with `wait`; else None, and `outcome` has it later.

        Raises:
            FlashMemError: with `wait`, what failed; it is shown in place too.
        """
        self._throttle.flush()
        self._start()
        return self._runs.runner.wait() if wait else None

    def close(self) -> None:
        """Detaches every listener and removes the widgets; a run under way is stopped."""
        self._throttle.cancel()
        self._refiner.cancel()
        self._runs.close()
        self._picker.close()
        self._sweeper.cancel()
        self._controls.slider.unobserve(self._grasped, names="moving")
        self._exports.close()
        self._pages.close()
        self._controls.close()

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self._controls.box._repr_mimebundle_(**keywords)

    # --- planning --------------------------------------------------------------------------

    def _planner(self, choice: Choice) -> Planner:
        """The model lowered for the device and precision of `choice`; once for each pair."""
        key = (choice.device, choice.precision)
        if key not in self._planners:
            prepared = self._engine.load(
                self._model,
                device=self._engine.open_device(choice.device),
                precision=choice.precision,
                dims=self._dims,
                shapes=self._shapes,
            )
            known = self._edits.get(key)
            history = History(known.states, known.at) if known else History()
            self._planners[key] = Planner(self._engine, prepared, history)
        return self._planners[key]

    def _percent(self, choice: Choice, budget: Budget) -> float:
        """Where `budget` lies on the slider; beyond full preload is its end."""
        if budget.share is not None:
            return 100 * budget.share
        planner, wanted = self._planner(choice), budget.bytes or 0
        if wanted < planner.scale.least:
            self._engine.make_plan(planner.prepared, budget=budget)  # says what needs more
        return planner.scale.percent(wanted)

    def _grasped(self, change: Any) -> None:
        """The kernel is free for the plan of where the slider will rest."""
        if change.new:
            self._refiner.cancel()
            self._sweeper.hold()
        else:
            self._throttle.request()  # even where it is back at its place, for the solver

    def _refresh(self) -> None:
        """Plans for the controls as they are and draws the prediction."""
        self._sweeper.hold()
        self._refused = None
        choice = self.choice
        try:
            planner = self._planner(choice)
            plan = planner.quick(choice)
        except FlashMemError as error:
            self._refiner.cancel()
            self._plan = self._outcome = None
            self._pages.show(None)
            self._show_exports()
            self._controls.fail(error)
        else:
            self._show(planner, plan)
            self._refine(planner, choice)
        self._keep(self.kept)  # last: somebody waits for the picture

    def _refine(self, planner: Planner, choice: Choice, before: Plan | None = None) -> None:
        """Lets the solver improve on the plan that is shown, in the background."""
        self._refiner.cancel()
        if choice.strategy is Strategy.LC_OPG:
            self._controls.say("the solver looks for a better plan …")
            self._refiner.start(
                lambda effort: planner.better(choice, effort),
                lambda plan: self._show(planner, plan, before),
            )

    def _show(self, planner: Planner, plan: Plan, before: Plan | None = None) -> None:
        """Shows a plan; `before` is the one that an edit made it from."""
        prepared = planner.prepared
        self._plan, self._outcome = plan, None
        self._controls.slider.ends = [planner.scale.least, planner.scale.full]
        self._pages.show(Scene(prepared, plan, preview(prepared, plan)))
        self._show_exports()
        self._sweeper.start(planner, self.choice)
        sizes = {name: weight.device_bytes for name, weight in prepared.model.weights.items()}
        self._controls.show(
            summary=markup.summary(prepared.model, summarize(prepared.model)),
            budget=markup.budget(plan, planner.scale.percent(plan.budget_bytes)),
            prediction=markup.prediction(plan, sum(sizes[one.weight] for one in plan.streamed)),
        )
        self._before = before
        self._compare()

    def _compare(self, change: Any = None) -> None:
        """Says in what the plan is another than that before it, the planner's own, a baseline."""
        planner, plan = self._planner(self.choice), self._plan
        if plan is None:
            return
        compared = [
            ("Against the plan before:", self._before),
            ("Against the planner's own:", planner.own(self.choice)),
        ]
        if name := self._pages.schedule.against:
            compared.append((f"Against {name}:", planner.baseline(Strategy(name))))
        self._say([(what, plan_diff(one, plan)) for what, one in compared if one is not None])

    def _say(self, diff: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        """Words on the schedule, and what can be undone."""
        history = self._planner(self.choice).history
        self._pages.schedule.say(
            diff, refused=self._refused, can_undo=history.can_undo, can_redo=history.can_redo
        )

    # --- edits of the schedule -------------------------------------------------------------

    def _edited(self, edit: Edit) -> None:
        """Plans again under an edit; one that cannot be is refused where it was made."""
        self._throttle.flush()
        choice, before = self.choice, self._plan
        planner = self._planner(choice)
        self._refused = None
        try:
            plan = planner.edit(choice, edit)
        except FlashMemError as error:
            self._refused = edit.weight, markup.advice(error)
            self._say()
            return
        self._keep(self.kept)
        self._show(planner, plan, before)
        self._refine(planner, choice, before)

    def _moved(self, by: int) -> None:
        """Undoes (-1) or redoes (1) an edit, or drops all of them (0)."""
        planner = self._planner(self.choice)
        if by == 0:
            planner.history.push(Constraints())
        else:
            planner.history.move(by)
        self._refresh()
        if self._plan is None:  # the budget was moved since: the controls say why
            self._say()

    # --- running ---------------------------------------------------------------------------

    def _pressed(self) -> None:
        self._throttle.flush()
        self._start()

    def _start(self) -> None:
        if self._plan is not None and self._runs.runner.job is None:
            self._refiner.cancel()  # what runs is what is on the screen, and stays there
            self._runs.start(self._planner(self.choice).prepared, self._plan)

    def _ran(self, outcome: Outcome) -> None:
        """Draws what a run measured; where the controls were moved meanwhile it is another's."""
        plan = outcome.plan
        if plan is not None and plan == self._plan:
            self._outcome = outcome
            self._show_exports()
            prepared = self._planner(self.choice).prepared
            self._pages.show(Scene(prepared, plan, outcome.predicted, outcome.result.trace))

    # --- taking things away ----------------------------------------------------------------

    def _subject(self) -> Subject | None:
        if self._plan is None:
            return None
        prepared = self._planner(self.choice).prepared
        return Subject(self._model, prepared, self._plan, self._outcome)

    def _show_exports(self) -> None:
        """Text to copy follows what is clicked."""
        recipe = None if self._plan is None else self._recipe(self._plan)
        self._exports.show(recipe, measured=self._outcome is not None)

    def _recipe(self, plan: Plan) -> Recipe:
        return Recipe(
            model=self._model,
            choice=self.choice,
            budget_bytes=plan.budget_bytes,
            constraints=plan.constraints,
            dims=self._dims or {},
            shapes=self._shapes or {},
            repeat=self._controls.repeat,
            check=self._controls.check and not plan.device.startswith("sim:"),
        )
