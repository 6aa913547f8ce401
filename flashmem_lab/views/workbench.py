"""The workbench: a model, a budget to drag, the memory it would take, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan.plan import Strategy
from flashmem_lab.trace import summarize
from flashmem_lab.units import Budget
from flashmem_lab.views import markup
from flashmem_lab.views.controls import Controls
from flashmem_lab.views.editing import Editing
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.exports import ExportsView, Subject
from flashmem_lab.views.kept import FIRST_PERCENT, Keeper, Kept
from flashmem_lab.views.live import Live
from flashmem_lab.views.loading import Loaded, Planners, Source
from flashmem_lab.views.pages import Pages, Scene
from flashmem_lab.views.picker import Picker, working
from flashmem_lab.views.planning import Choice, Planner
from flashmem_lab.views.queue import QueueView
from flashmem_lab.views.recipe import Recipe
from flashmem_lab.views.refine import Refiner
from flashmem_lab.views.runs import Runs
from flashmem_lab.views.sweep import Sweeper
from flashmem_lab.views.throttle import Throttle
from flashmem_lab.worker.sketch import preview

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState
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

    In a notebook the model is opened in the background, and other cells run meanwhile; what needs
    it waits for it, and raises what went wrong. Elsewhere it is open when this returns.

    Args:
        model: path of the .onnx file.
        device: "auto", or an id such as "ocl:0", "adb:SERIAL" or "sim:adreno750"; of several the
            first that is there.
        budget: "30%", "200MB" or "min", to start with.
        precision: "fp32" or "fp16", of the weights on the device.
        dims: values of symbolic dimensions, by name.
        shapes: shapes of inputs, by name.
        repeat: runs a press of Run makes; the first is cold.
        kept: what was done in an earlier workbench of this model; its edits are taken over.
        keeper: remembers what is done; its runs are the beginning of the history.
        failed: called with why the model cannot be opened, if it cannot.
        engine: opens, plans and runs; by default every device is used in a child process, so
            that a driver that crashes takes nothing with it.

    Raises:
        FlashMemError: the model cannot be opened, or there is no such device (see above).
        ValueError: `budget` or `precision` is none.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        device: str | Sequence[str] = "auto",
        budget: str = f"{FIRST_PERCENT:g}%",
        precision: str = "fp32",
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        repeat: int = 2,
        kept: Kept | None = None,
        keeper: Keeper | None = None,
        failed: Callable[[BaseException], None] | None = None,
        engine: Engine | None = None,
    ) -> None:
        if engine is None:
            from flashmem_lab.worker import isolated

            engine = isolated()
        self._engine: Engine = engine
        self._source = Source(Path(model), dict(dims or {}), dict(shapes or {}))
        self._planners = Planners(engine, self._source, kept.edits if kept else (), self._loaded)
        self._keeper = keeper
        self._tell = failed or (lambda error: None)
        self._wanted: Budget | None = Budget.parse(budget)  # until the scale is known
        self._failure: BaseException | None = None  # why the model cannot be opened
        self._loading: Choice | None = None  # what a load after the first one is for
        self._refiner = Refiner()
        self._sweeper = Sweeper(lambda sweep: self._pages.preview(sweep))
        self._plan: Plan | None = None
        self._editing = Editing(self)
        self._outcome: Outcome | None = None
        self._throttle = Throttle(self._refresh, _DRAW_SECONDS)

        first, *others = [device] if isinstance(device, str) else device
        live = Live()
        self._exports = ExportsView(engine, self._subject)
        self._queue = QueueView(
            engine,
            self._source.model,
            self._source.dims,
            lambda: self.choice,
            places=kept.queue if kept else (),
            changed=self._keep,
        )
        self._pages = Pages(self._editing.edited, self._editing.moved, self._queue)
        self._editing.begin(self._pages.schedule)
        self._controls = Controls(
            device=first,
            precision=Precision(precision),
            repeat=repeat,
            can_check=find_spec("onnxruntime") is not None,
            live=live.box,
            pages=self._pages.box,
            exports=self._exports,
        )
        if kept is not None:
            self._controls.take(kept.choice)
        self._runs = Runs(
            engine,
            self._controls,
            live,
            self._pages.compare,
            keeper.runs() if keeper else (),
            self._ran,
            self._found,
        )
        self._picker: Picker | None = None  # until the model and the devices are there
        self._box = widgets.VBox(layout=widgets.Layout(width="100%"))
        self._opening = widgets.HTML(markup.opening(self._source.model.name))
        self._opening.add_class("fml-opening")
        self._box.children = (self._opening,)
        self._planners.load(self.choice, others, look=True)

    # --- for people who would rather call than click ---------------------------------------

    @property
    def widget(self) -> Any:
        """The ipywidgets box that holds everything."""
        return self._box

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
        """The plan of the controls as they are; None where there is none.

        Raises:
            FlashMemError: the model cannot be opened.
        """
        self._settle()
        return self._plan

    @property
    def outcome(self) -> Outcome | None:
        """The run that belongs to this plan; None before it ran."""
        return self._outcome

    @property
    def choice(self) -> Choice:
        """What the controls say."""
        return self._controls.choice

    @property
    def schedule(self) -> ScheduleView:
        """The life of every weight; its edits become constraints of the plan."""
        return self._pages.schedule

    @property
    def kept(self) -> Kept:
        """What was done here, to go on with in another workbench."""
        places = tuple(path.absolute() for path in self._queue.places)
        return Kept(self.choice, self._source.dims, self._planners.edits, places)

    def set_budget(self, budget: str) -> None:
        """Moves the slider to "30%", "200MB" or "min".

        Raises:
            ValueError: not a budget.
            FlashMemError: less than the least feasible budget, or no model.
        """
        wanted = Budget.parse(budget)
        self._settle()
        planner = self._planners.get(self.choice)
        if planner is not None:  # else the controls say what is wrong
            self._controls.percent = planner.percent(self.choice, wanted)
            self._throttle.flush()

    def run(self, *, wait: bool = False) -> Outcome | None:
        """Runs the plan in a thread; with `wait`, until it is done.

        Returns:
            The outcome with `wait`; else None, and `outcome` has it later.

        Raises:
            FlashMemError: with `wait`, what failed; it is shown in place too.
        """
        self._settle()
        self._start()
        return self._runs.runner.wait() if wait else None

    def close(self) -> None:
        """Detaches every listener and removes the widgets; a run under way is stopped."""
        self._planners.close()
        self._throttle.cancel()
        self._refiner.cancel()
        self._runs.close()
        if self._picker is not None:
            self._picker.close()
        self._sweeper.cancel()
        self._controls.slider.unobserve(self._grasped, names="moving")
        self._exports.close()
        self._pages.close()
        self._controls.close()
        self._opening.close()
        self._box.close()

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self._box._repr_mimebundle_(**keywords)

    # --- opening ---------------------------------------------------------------------------

    def _loaded(self, job: Future[Loaded]) -> None:
        """The model is there for a device and precision, or it is said why it is not."""
        error = job.exception()
        if self._wanted is None:
            self._reloaded(error)
        elif error is None:
            self._begin(job.result(), self._wanted)
        else:
            self._failure = error
            self._opening.value = markup.failure(error)
            self._opening.remove_class("fml-opening")
            self._tell(error)

    def _begin(self, loaded: Loaded, wanted: Budget) -> None:
        """The workbench, once its model is there."""
        controls, pages = self._controls, self._pages
        controls.set_device(loaded.choice.device, working(loaded.devices))
        self._picker = Picker(controls, loaded.devices)
        try:
            controls.percent = loaded.planner.percent(self.choice, wanted)
        except FlashMemError as error:  # too small a budget; the least one is shown
            controls.fail(error)
            controls.percent = 0.0
        self._wanted = None
        pages.follow(controls.slider)
        controls.slider.observe(self._grasped, names="moving")
        self._refresh()
        controls.listen(
            changed=self._throttle.request,
            how=self._show_exports,
            run=self._pressed,
            stop=self._runs.runner.cancel,
            look=self._runs.look,
        )
        self._box.children = (controls.box,)

    def _reloaded(self, error: BaseException | None) -> None:
        """The controls go on where they are by now."""
        if error is None or self.choice != self._loading:
            self._refresh()
        else:
            self._nothing(error)

    def _settle(self) -> None:
        """Waits until what is shown is what the controls say.

        Raises:
            FlashMemError: the model cannot be opened.
        """
        self._throttle.flush()
        while self._planners.busy:
            self._planners.wait()
        if self._failure is not None:
            raise self._failure

    # --- planning --------------------------------------------------------------------------

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
        self._editing.forget()
        choice = self.choice
        planner = self._planners.get(choice)
        if planner is None:
            self._load(choice)
            return
        try:
            plan = planner.quick(choice)
        except FlashMemError as error:
            self._nothing(error)
        else:
            self._show(planner, plan)
            self._refine(planner, choice)
        self._keep()  # last: somebody waits for the picture

    def _load(self, choice: Choice) -> None:
        """Has the model lowered for another device or precision; `_loaded` goes on."""
        self._refiner.cancel()
        self._sweeper.cancel()
        self._plan = self._outcome = None
        self._controls.wait(f"choosing kernels for {choice.device} in {choice.precision} …")
        if not self._planners.busy:
            self._loading = choice
            with suppress(FlashMemError):  # where no event loop runs; it is shown in place
                self._planners.load(choice)

    def _keep(self) -> None:
        if self._keeper is not None:
            self._keeper.save(self.kept)

    def _nothing(self, error: BaseException) -> None:
        """There is no plan, and why."""
        self._refiner.cancel()
        self._plan = self._outcome = None
        self._pages.show(None)
        self._show_exports()
        self._controls.fail(error)

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
        scale = planner.scale(self.choice)
        self._controls.slider.ends = [scale.least, scale.full]
        self._pages.show(Scene(prepared, plan, preview(prepared, plan)))
        self._show_exports()
        self._sweeper.start(planner, self.choice)
        sizes = {name: weight.device_bytes for name, weight in prepared.model.weights.items()}
        self._controls.show(
            summary=markup.summary(prepared.model, summarize(prepared.model)),
            budget=markup.budget(plan, scale.percent(plan.budget_bytes)),
            prediction=markup.prediction(plan, sum(sizes[one.weight] for one in plan.streamed)),
        )
        self._editing.compare(planner, plan, before)

    # --- for edits of the schedule ---------------------------------------------------------

    def current(self) -> tuple[Planner, Plan | None] | None:
        """See `Host.current`."""
        self._throttle.flush()
        planner = self._planners.get(self.choice)
        return None if planner is None else (planner, self._plan)

    def take(self, planner: Planner, plan: Plan, before: Plan | None) -> None:
        """See `Host.take`."""
        self._keep()
        self._show(planner, plan, before)
        self._refine(planner, self.choice, before)

    def replan(self) -> None:
        """See `Host.replan`."""
        self._refresh()

    # --- running ---------------------------------------------------------------------------

    def _pressed(self) -> None:
        self._throttle.flush()
        self._start()

    def _start(self) -> None:
        planner = self._planners.get(self.choice)
        if planner is not None and self._plan is not None and self._runs.runner.job is None:
            self._refiner.cancel()  # what runs is what is on the screen, and stays there
            self._runs.start(planner.prepared, self._plan)

    def _ran(self, outcome: Outcome) -> None:
        """Draws what a run measured; where the controls were moved meanwhile it is another's."""
        if self._keeper is not None:
            self._keeper.save_runs(self._runs.past)
        plan, planner = outcome.plan, self._planners.get(self.choice)
        if planner is not None and plan is not None and plan == self._plan:
            self._outcome = outcome
            self._show_exports()
            trace = outcome.result.trace
            self._pages.show(Scene(planner.prepared, plan, outcome.predicted, trace))

    def _found(self, devices: Sequence[DeviceState]) -> None:
        if self._picker is not None:
            self._picker.found(devices)

    # --- taking things away ----------------------------------------------------------------

    def _subject(self) -> Subject | None:
        planner = self._planners.get(self.choice)
        if planner is None or self._plan is None:
            return None
        return Subject(self._source.model, planner.prepared, self._plan, self._outcome)

    def _show_exports(self) -> None:
        """Text to copy follows what is clicked."""
        recipe = None
        if self._plan is not None:
            check = self._controls.check and not self._plan.device.startswith("sim:")
            recipe = Recipe(self._source, self.choice, self._plan, self._controls.repeat, check)
        self._exports.show(recipe, measured=self._outcome is not None)
