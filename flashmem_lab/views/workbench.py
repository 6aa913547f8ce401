"""The workbench: a model, a budget to drag, the memory it would take, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.units import Budget
from flashmem_lab.views import markup
from flashmem_lab.views.controls import Controls
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.kept import FIRST_PERCENT, Keeper, Kept
from flashmem_lab.views.live import Live
from flashmem_lab.views.loading import Loaded, Planners, Source
from flashmem_lab.views.parts import wide
from flashmem_lab.views.past import RunLog
from flashmem_lab.views.picker import Picker, working
from flashmem_lab.views.planning import Choice
from flashmem_lab.views.queue import QueueView
from flashmem_lab.views.runs import Runs
from flashmem_lab.views.screen import Screen

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.views.graph import GraphView
    from flashmem_lab.views.memory import MemoryView
    from flashmem_lab.views.schedule import ScheduleView


class Workbench:
    """Shows a model in a notebook, plans it under a budget as the slider moves, and runs it.

    Put it last in a cell, or show `widget` in a layout of your own. Everything that can be
    clicked can also be called: `set_budget`, `run`. Nothing is raised into the notebook by the
    controls: what fails is said in place.

    In a notebook the model is opened in the background, and other cells run meanwhile; what needs
    it waits for it, and raises what went wrong. Elsewhere it is open when this returns.

    Runs are remembered: the history goes on where the last workbench of this model ended, in a
    notebook or in a tab of JupyterLab. Budget and edits are what the cell says.

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
        keeper: remembers what is done, for `kept` of a later one.
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
        self._source = Source(Path(model), dict(dims or {}), dict(shapes or {}))
        self._planners = Planners(engine, self._source, kept.edits if kept else (), self._loaded)
        self._keeper = keeper
        self._tell = failed or (lambda error: None)
        self._wanted: Budget | None = Budget.parse(budget)  # until the scale is known
        self._failure: BaseException | None = None  # why the model cannot be opened

        first, *others = [device] if isinstance(device, str) else device
        self._controls = Controls(
            first,
            Precision(precision),
            repeat=repeat,
            can_check=find_spec("onnxruntime") is not None,
        )
        if kept is not None:
            self._controls.choices.take(kept.choice)
        self._queue = QueueView(
            engine,
            self._source.model,
            self._source.dims,
            lambda: self.choice,
            places=kept.queue if kept else (),
            changed=self._keep,
        )
        self._screen = Screen(
            engine, self._source, self._planners, self._controls, self._queue, self._keep
        )
        live = Live()
        self._controls.lay_out(live.box, self._screen.exports, self._screen.pages.box)
        self._runs = Runs(
            engine,
            self._controls,
            live,
            self._screen.pages.compare,
            RunLog(self._source.model),
            self._screen.ran,
            self._found,
        )
        self._picker: Picker | None = None  # until the model and the devices are there
        self._opening = widgets.HTML(markup.opening(self._source.model.name))
        self._opening.add_class("fml-opening")
        self._box = widgets.VBox([self._opening], layout=wide())
        self._planners.load(self.choice, others, look=True)

    # --- for people who would rather call than click ---------------------------------------

    @property
    def widget(self) -> Any:
        """The ipywidgets box that holds everything."""
        return self._box

    @property
    def memory(self) -> MemoryView:
        """What is held, predicted and measured; `memory.mode` is what it is drawn over."""
        return self._screen.pages.memory

    @property
    def graph(self) -> GraphView:
        """The model's graph; `graph.selected` is the node that is selected."""
        return self._screen.pages.graph

    @property
    def plan(self) -> Plan | None:
        """The plan of the controls as they are; None where there is none.

        Raises:
            FlashMemError: the model cannot be opened.
        """
        self._settle()
        return self._screen.plan

    @property
    def outcome(self) -> Outcome | None:
        """The run that belongs to this plan; None before it ran."""
        return self._screen.outcome

    @property
    def choice(self) -> Choice:
        """What the controls say."""
        return self._screen.choice

    @property
    def schedule(self) -> ScheduleView:
        """The life of every weight; its edits become constraints of the plan."""
        return self._screen.pages.schedule

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
            self._controls.choices.percent = planner.percent(self.choice, wanted)
            self._screen.flush()

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
        self._runs.close()
        if self._picker is not None:
            self._picker.close()
        self._screen.close()
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
            self._screen.loaded(error)
        elif error is None:
            self._begin(job.result(), self._wanted)
        else:
            self._failure = error
            self._opening.value = markup.failure(error)
            self._opening.remove_class("fml-opening")
            self._tell(error)

    def _begin(self, loaded: Loaded, wanted: Budget) -> None:
        """The workbench, once its model is there."""
        controls, choices = self._controls, self._controls.choices
        choices.set_device(loaded.choice.device, working(loaded.devices))
        self._picker = Picker(choices, loaded.devices)
        problem = None
        try:
            choices.percent = loaded.planner.percent(self.choice, wanted)
        except FlashMemError as error:  # too small a budget; the least one is shown
            choices.percent, problem = 0.0, error
        self._wanted = None
        self._screen.begin(problem)
        choices.listen(changed=self._screen.request, look=self._runs.look)
        controls.run_bar.listen(
            how=self._screen.show_exports, run=self._pressed, stop=self._runs.runner.cancel
        )
        self._box.children = (controls.box,)

    def _settle(self) -> None:
        """Waits until what is shown is what the controls say.

        Raises:
            FlashMemError: the model cannot be opened.
        """
        self._screen.flush()
        while self._planners.busy:
            self._planners.wait()
        if self._failure is not None:
            raise self._failure

    def _keep(self) -> None:
        if self._keeper is not None:
            self._keeper.save(self.kept)

    # --- running ---------------------------------------------------------------------------

    def _pressed(self) -> None:
        self._screen.flush()
        self._start()

    def _start(self) -> None:
        if self._runs.runner.job is None and (shown := self._screen.to_run()) is not None:
            self._runs.start(*shown)

    def _found(self, devices: Sequence[DeviceState]) -> None:
        if self._picker is not None:
            self._picker.found(devices)
