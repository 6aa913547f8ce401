"""Several models in turn under one cap, chosen, planned and run in a workbench's tab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from flashmem_lab.errors import Cancelled
from flashmem_lab.plan.queue import QueuePlan
from flashmem_lab.queues import Queue, QueueOutcome
from flashmem_lab.units import Budget
from flashmem_lab.views import markup
from flashmem_lab.views.address_data import address_data
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.live import Live
from flashmem_lab.views.memory import MemoryView
from flashmem_lab.views.memory_data import memory_data
from flashmem_lab.views.parts import row, wide
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.views.planning import Choice
from flashmem_lab.views.running import Runner
from flashmem_lab.worker.jobs import Held, Message, Step
from flashmem_lab.worker.sketch import preview

if TYPE_CHECKING:
    from flashmem_lab.prepared import Prepared

_OFFERED = 200  # files; who has more types a name
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class _Joint:
    """A queue, its plan, and what running it gave if it ran."""

    prepared: Prepared
    plan: QueuePlan
    outcome: QueueOutcome | None


class QueueView:
    """Picks models, plans them jointly, runs them, and shows all of them on one timeline.

    Args:
        engine: opens and runs.
        model: the workbench's own; the queue begins with it.
        dims: values of its symbolic dimensions, taken for the others too.
        choice: says device and precision when it is called.
        places: of an earlier queue; by default the model alone.
        changed: called when another model was put in, or one taken out.

    Attributes:
        box: the widget to show.
        memory: the joint timeline.
        places: the models, in their order.
    """

    def __init__(
        self,
        engine: Engine,
        model: Path,
        dims: Mapping[str, int],
        choice: Callable[[], Choice],
        *,
        places: Sequence[Path] = (),
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._engine, self._dims, self._choice = engine, dims, choice
        self._folder = model.parent
        self.places = [path for path in places if path.is_file()] or [model]
        self._changed = changed or (lambda: None)
        self._opened: dict[tuple[Path, str, str], Prepared] = {}
        self._joint: _Joint | None = None
        self._runner: Runner[_Joint] = Runner(self._heard, self._ended)
        self._live = Live()
        self.memory = MemoryView(self._draw_addresses)
        self._name = widgets.Combobox(
            placeholder="another model: models/vit.onnx",
            options=_offered(self._folder),
            ensure_option=False,
            description="Model",
            style={"description_width": "50px"},
            layout=widgets.Layout(width="420px"),
        )
        self._list = widgets.VBox()
        self._budget = widgets.BoundedFloatText(
            value=30,
            min=0,
            max=100,
            step=5,
            description="Budget %",
            tooltip="from the least feasible cap (0) to every model resident (100)",
            style={"description_width": "64px"},
            layout=widgets.Layout(width="150px"),
        )
        self._rounds = widgets.BoundedIntText(
            value=1,
            min=1,
            max=_ROUNDS,
            description="rounds",
            style={"description_width": "50px"},
            layout=widgets.Layout(width="120px"),
        )
        self._compare = widgets.Checkbox(
            value=True,
            description="and one after another",
            tooltip="then run the same models alone, one after another, under the same cap",
            indent=False,
            layout=widgets.Layout(width="190px"),
        )
        self._add = _button("Add", "plus", "put this model at the end of the queue")
        self._plan = _button("Plan", "calendar", "plan all of them together")
        self._run = _button("Run queue", "play", "plan and run all of them")
        self._stop = _button("Stop", "stop", "end the run")
        self._words, self._error, self._table = (
            widgets.HTML(layout=widgets.Layout(width="100%")) for _ in range(3)
        )
        self._clicks: Mapping[Any, Callable[[], object]] = {
            self._add: self._added,
            self._plan: partial(self._start, run=False),
            self._run: partial(self._start, run=True),
            self._stop: self._runner.cancel,
        }
        for button in self._clicks:
            button.on_click(self._pressed)
        self.box = widgets.VBox(
            [
                widgets.HBox([self._name, self._add]),
                self._list,
                row(self._budget, self._rounds, self._compare),
                row(self._plan, self._run, self._stop, self._words),
                *(self._live.box, self._error, self._table),
            ],
            layout=wide(),
        )
        self._busy(False)
        self._show_places()

    def close(self) -> None:
        """Stops a run and removes every widget."""
        self._runner.close()
        for button in self._clicks:
            button.on_click(self._pressed, remove=True)
        for widget in (*_below(self.box), self.memory):
            widget.close()

    # --- the queue -------------------------------------------------------------------------

    def _pressed(self, button: Any) -> None:
        self._clicks[button]()

    def _added(self) -> None:
        name = str(self._name.value).strip()
        if not name:
            return
        path = Path(name) if Path(name).is_absolute() else self._folder / name
        if not path.is_file():
            self._error.value = markup.warning(f"there is no file {name} in {self._folder}")
            return
        self._error.value, self._name.value = "", ""
        self.places.append(path)
        self._show_places()
        self._changed()

    def _dropped(self, at: int, button: Any) -> None:
        del self.places[at]
        self._show_places()
        self._changed()

    def _show_places(self) -> None:
        """A row for each place; what was there before is closed."""
        rows = []
        for at, path in enumerate(self.places):
            drop = _button("", "times", f"take {path.name} out", width="34px")
            drop.disabled = len(self.places) == 1
            drop.on_click(partial(self._dropped, at))
            rows.append(row(widgets.HTML(markup.place(at + 1, path.name)), drop))
        before, self._list.children = self._list.children, rows
        for gone in before:
            for widget in (*gone.children, gone):
                widget.close()

    # --- planning and running --------------------------------------------------------------

    def _start(self, *, run: bool) -> None:
        """Plans, and runs, in a thread; what is chosen is read now, in the kernel's own."""
        if self._runner.job is not None:
            return
        choice, paths = self._choice(), list(self.places)
        order = tuple(dict.fromkeys(paths))
        places = tuple(order.index(path) for path in paths) * int(self._rounds.value)
        budget = Budget(share=float(self._budget.value) / 100)
        compare = bool(self._compare.value)
        check = not choice.device.startswith("sim:")
        self._error.value = ""
        self._busy(True)

        def work(hear: Callable[[Message], None], stop: Callable[[], bool]) -> _Joint:
            queue = Queue(tuple(self._load(path, choice) for path in order), places)
            planned = self._engine.plan_queue(queue, budget=budget)
            joined = replace(queue.models[0], model=planned.joined.model)
            if not run:
                return _Joint(joined, planned, None)
            outcome = self._engine.run_queue(
                queue, budget=budget, check=check, compare=compare, hear=hear, stop=stop
            )
            return _Joint(joined, outcome.plan, outcome)

        if not self._runner.start(work):
            self._runner.wait()

    def _load(self, path: Path, choice: Choice) -> Prepared:
        key = (path, choice.device, choice.precision.value)
        if key not in self._opened:
            self._opened[key] = self._engine.load(
                path,
                device=self._engine.open_device(choice.device),
                precision=choice.precision,
                dims=self._dims,
            )
        return self._opened[key]

    def _heard(self, message: Message) -> None:
        if isinstance(message, Step):
            self._words.value = markup.progress(message.what, message.done, message.total)
        elif isinstance(message, Held):
            self._live.hear(message)

    def _ended(self, job: Future[_Joint]) -> None:
        self._busy(False)
        error = job.exception()
        if isinstance(error, Cancelled):
            self._words.value = markup.note("stopped; the queue is as it was")
        elif error is not None:
            self._error.value = markup.failure(error)
        else:
            self._show_joint(job.result())

    def _busy(self, value: bool) -> None:
        for button in (self._plan, self._run):
            button.disabled = value
        self._stop.layout.display = None if value else "none"
        self._words.value = markup.note("opening and planning …") if value else ""
        if value:
            self._live.begin(0)
        else:
            self._live.end()

    # --- what is shown ---------------------------------------------------------------------

    def _show_joint(self, joint: _Joint) -> None:
        self._words.value = markup.queue_plan(joint.plan)
        self._table.value = markup.queue_outcome(joint.outcome) if joint.outcome else ""
        self._show_memory(joint)

    def _show_memory(self, joint: _Joint) -> None:
        self._joint = joint
        if self.memory not in self.box.children:  # there was nothing to see
            self.box.children = (*self.box.children, self.memory)
        plan, model = joint.plan.plan, joint.prepared.model
        predicted = preview(joint.prepared, plan)
        measured = joint.outcome.result.trace if joint.outcome else None
        with self.memory.hold_sync():
            self.memory.plan = plan_data(model, plan, predicted, measured)
            self.memory.memory = memory_data(plan, predicted, measured)
        self._draw_addresses()

    def _draw_addresses(self) -> None:
        if self.memory.mode == "map" and self._joint is not None:
            joint = self._joint
            self.memory.addresses = address_data(joint.prepared.model, joint.plan.plan)


def _offered(folder: Path) -> list[str]:
    """Models in a folder and in the folders in it, by name."""
    found = sorted({*folder.glob("*.onnx"), *folder.glob("*/*.onnx")})
    return [str(path.relative_to(folder)) for path in found[:_OFFERED]]


def _button(text: str, icon: str, tooltip: str, width: str = "110px") -> Any:
    layout = widgets.Layout(width=width)
    return widgets.Button(description=text, icon=icon, tooltip=tooltip, layout=layout)


def _below(widget: Any) -> Sequence[Any]:
    """A widget and all that it holds, the innermost first."""
    inner = [found for child in getattr(widget, "children", ()) for found in _below(child)]
    return [*inner, widget]
