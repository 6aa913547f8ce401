"""The workbench's widgets: their layout, their typed values, their listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from flashmem_lab.device import Transport
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.plan import Objective, Strategy
from flashmem_lab.views import markup
from flashmem_lab.views.budget import BudgetSlider
from flashmem_lab.views.planning import PRICE, Choice

_LABEL = {"description_width": "64px"}
_MODES = (
    ("time to first result", Objective.COLD.value),
    ("time of later runs", Objective.WARM.value),
    ("memory", Objective.MEMORY.value),
)
_TRANSPORTS = (("the device's own", ""), *((one.value, one.value) for one in Transport))
_CHUNKS = tuple((f"{1 << (at - 10)} KiB", 1 << at) for at in range(18, 24))


class Controls:
    """Every widget of a workbench; it knows nothing of models and plans.

    Args:
        device: the id to start with, until `set_device` says which there are.
        precision: the precision to start with.
        repeat: runs that a press of Run makes.
        can_check: whether outputs can be compared with onnxruntime's.
        live: what a run holds, below the progress bar.
        pages: the pictures below the controls.
        exports: what can be taken away, above the pictures.

    Attributes:
        box: the widget to show.
    """

    def __init__(
        self,
        device: str,
        precision: Precision,
        *,
        repeat: int,
        can_check: bool,
        live: Any,
        pages: Any,
        exports: Any,
    ) -> None:
        self._summary = widgets.HTML(layout=_wide())
        self._device = widgets.Dropdown(
            options=[device],
            value=device,
            description="Device",
            style=_LABEL,
            layout=widgets.Layout(width="340px"),
        )
        self._again = widgets.Button(
            icon="refresh",
            tooltip="look for devices again",
            layout=widgets.Layout(width="34px"),
        )
        self._phones = widgets.HTML()  # why a phone that is there cannot be chosen
        self._precision = widgets.ToggleButtons(
            options=[one.value for one in Precision],
            value=precision.value,
            tooltips=["weights as 32-bit floats", "weights as 16-bit floats"],
            style={"button_width": "52px"},
        )
        self._strategy = _choice("Strategy", [one.value for one in Strategy])
        self._optimize = _choice("Optimize", _MODES, "238px")
        self._optimize.value = Objective.COLD.value
        self._price = widgets.BoundedFloatText(
            value=PRICE,
            min=0.0,
            max=1.0,
            step=0.05,
            description="λ",
            tooltip="price of preloaded bytes against streamed ones, where memory is made least",
            style={"description_width": "18px"},
            layout=widgets.Layout(width="98px"),
        )
        self._transport = _choice("Transport", _TRANSPORTS, "226px")
        self._chunk = _choice("Chunks", _CHUNKS)
        self._chunk.value = CHUNK_BYTES
        self._slider = BudgetSlider(layout=widgets.Layout(width="54%"))
        self._budget = widgets.HTML()
        self._prediction = widgets.HTML()
        self._button = widgets.Button(
            description="Run",
            icon="play",
            button_style="primary",
            tooltip="run on the device",
            layout=widgets.Layout(width="96px"),
        )
        self._stop = widgets.Button(
            description="Stop",
            icon="stop",
            tooltip="end the run; edits and plan stay",
            layout=widgets.Layout(width="80px"),
        )
        self._repeat = widgets.BoundedIntText(
            value=repeat,
            min=1,
            max=10_000,
            description="times",
            tooltip="runs that a press of Run makes; the first is cold",
            style={"description_width": "38px"},
            layout=widgets.Layout(width="112px"),
        )
        self._check = widgets.Checkbox(
            value=can_check,
            disabled=not can_check,
            description="compare with onnxruntime",
            tooltip="compare the outputs with onnxruntime's, after everything was measured",
            indent=False,
            layout=widgets.Layout(width="200px"),
        )
        self._progress = widgets.IntProgress(layout=widgets.Layout(width="260px"))
        self._status = widgets.HTML()
        self._error = widgets.HTML(layout=_wide())
        self._result = widgets.HTML(layout=_wide())
        self._history = widgets.HTML(layout=_wide())
        self._pages = pages
        self.box = widgets.VBox(
            [
                widgets.HTML(markup.STYLE, layout=widgets.Layout(display="none")),
                self._summary,
                _row(self._device, self._again, self._precision, self._strategy),
                self._phones,
                _row(self._optimize, self._price, self._transport, self._chunk),
                _row(self._slider, self._budget),
                self._prediction,
                _row(
                    *(self._button, self._stop, self._repeat, self._check),
                    *(self._progress, self._status),
                ),
                live,
                self._error,
                self._result,
                exports,
                pages,
                self._history,
            ],
            layout=_wide(),
        )
        self._changed: Callable[[], None] | None = None
        self._how: Callable[[], None] | None = None
        self._clicked: Mapping[Any, Callable[[], None]] = {}
        self._price_matters()
        self.busy = False

    # --- what was chosen -------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Id of the chosen device."""
        return str(self._device.value)

    @property
    def precision(self) -> Precision:
        """Of the weights on the device."""
        return Precision(self._precision.value)

    @property
    def choice(self) -> Choice:
        """All of it that a plan follows from."""
        return Choice(
            device=self.device,
            precision=self.precision,
            strategy=Strategy(self._strategy.value),
            optimize=Objective(self._optimize.value),
            percent=self.percent,
            lambda_=float(self._price.value),
            transport=str(self._transport.value),
            chunk_bytes=int(self._chunk.value),
        )

    def take(self, choice: Choice) -> None:
        """Says how to plan as another workbench did; device, precision and budget stay."""
        self._strategy.value = choice.strategy.value
        self._optimize.value = choice.optimize.value
        self._price.value = choice.lambda_
        self._transport.value = choice.transport
        if choice.chunk_bytes in dict(_CHUNKS).values():
            self._chunk.value = choice.chunk_bytes
        self._price_matters()

    @property
    def percent(self) -> float:
        """Position of the budget slider, 0 (least feasible) to 100 (full preload)."""
        return float(self._slider.value)

    @percent.setter
    def percent(self, value: float) -> None:
        self._slider.value = value

    @property
    def repeat(self) -> int:
        """Runs that a press of Run makes."""
        return int(self._repeat.value)

    @property
    def check(self) -> bool:
        """Whether outputs are to be compared with onnxruntime's."""
        return bool(self._check.value)

    @property
    def slider(self) -> BudgetSlider:
        """Of the budget."""
        return self._slider

    # --- listeners -------------------------------------------------------------------------

    def listen(
        self,
        *,
        changed: Callable[[], None],
        how: Callable[[], None],
        run: Callable[[], None],
        stop: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        """Calls `changed` when another plan is wanted, `how` when another way to run it is.

        The others are called when their button is pressed.
        """
        self._changed, self._how = changed, how
        self._clicked = {self._button: run, self._stop: stop, self._again: look}
        for widget in self._choices():
            widget.observe(self._on_change, names="value")
        for widget in (self._repeat, self._check):
            widget.observe(self._on_how, names="value")
        for button in self._clicked:
            button.on_click(self._on_click)

    def close(self) -> None:
        """Detaches the listeners and closes every widget."""
        if self._changed is not None:
            for widget in self._choices():
                widget.unobserve(self._on_change, names="value")
            for widget in (self._repeat, self._check):
                widget.unobserve(self._on_how, names="value")
        for button in self._clicked:
            button.on_click(self._on_click, remove=True)
        self._changed, self._how, self._clicked = None, None, {}
        for child in self.box.children:
            for inner in getattr(child, "children", ()):
                inner.close()
            child.close()
        self.box.close()

    def _choices(self) -> list[Any]:
        asked = [self._strategy, self._optimize, self._price, self._transport, self._chunk]
        return [self._device, self._precision, self._slider, *asked]

    def _price_matters(self) -> None:
        """Only to those who make memory least."""
        self._price.disabled = self._optimize.value != Objective.MEMORY.value

    def _on_change(self, change: Any) -> None:
        self._price_matters()
        if self._changed is not None:
            self._changed()

    def _on_how(self, change: Any) -> None:
        if self._how is not None:
            self._how()

    def _on_click(self, button: Any) -> None:
        if button in self._clicked:
            self._clicked[button]()

    def set_device(self, device: str, devices: Sequence[tuple[str, str]]) -> None:
        """Offers devices for the first time; `device` is the one that was opened."""
        self._device.options = _labelled(devices)
        self._device.value = device

    def set_devices(self, devices: Sequence[tuple[str, str]], problems: str = "") -> None:
        """Offers other devices; the chosen one stays chosen, marked where it is gone.

        Args:
            devices: id and name of each that works.
            problems: HTML on those that people may expect there.
        """
        self._phones.value = problems
        chosen = self.device
        if chosen not in dict(devices):
            devices = [*devices, (chosen, "not there now")]
        options = _labelled(devices)
        if options == list(self._device.options):
            return
        changed, self._changed = self._changed, None  # not a choice of anybody
        self._device.options = options
        self._device.value = chosen
        self._changed = changed

    # --- what is shown ---------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a run is under way: it can be stopped, and the progress bar is seen."""
        return self._busy

    @busy.setter
    def busy(self, value: bool) -> None:
        self._busy = self._button.disabled = value
        self._stop.layout.display = None if value else "none"
        self._progress.layout.display = None if value else "none"
        self._progress.value = 0
        self._status.value = ""
        if value:
            self._error.value = ""

    @property
    def looking(self) -> bool:
        """Whether devices are looked for; the button waits so long."""
        return bool(self._again.disabled)

    @looking.setter
    def looking(self, value: bool) -> None:
        self._again.disabled = value

    def say(self, text: str) -> None:
        """A word on what is going on, plain text."""
        self._status.value = markup.note(text)

    def progress_to(self, what: str, done: int, total: int) -> None:
        """Moves the progress bar."""
        self._progress.max = max(1, total)
        self._progress.value = done
        self.say(f"{what}: {done} of {total}")

    def show(self, *, summary: str, budget: str, prediction: str) -> None:
        """Shows a plan, as HTML; an error shown before goes."""
        for widget, text in (
            (self._summary, summary),
            (self._budget, budget),
            (self._prediction, prediction),
            (self._error, ""),
        ):
            widget.value = text
        self._rest()

    def fail(self, error: BaseException) -> None:
        """Shows an error in place."""
        self._error.value = markup.failure(error)
        self._rest()

    def wait(self, text: str) -> None:
        """What is shown is not what the controls say, and why; until `show` or `fail`."""
        self._button.disabled = True
        self._error.value = ""
        self._pages.add_class("fml-stale")
        self.say(text)

    def _rest(self) -> None:
        """Nothing but a run is waited for."""
        self._pages.remove_class("fml-stale")
        self._button.disabled = self.busy
        if not self.busy:
            self._status.value = ""

    def report(self, result: str, history: str) -> None:
        """Shows what a run measured, as HTML."""
        self._result.value = result
        self._history.value = history


def _labelled(devices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{one} · {name}", one) for one, name in devices]


def _wide() -> Any:
    return widgets.Layout(width="100%")


def _choice(title: str, options: Sequence[str | tuple[str, object]], width: str = "190px") -> Any:
    return widgets.Dropdown(
        options=options,
        description=title,
        style=_LABEL,
        layout=widgets.Layout(width=width),
    )


def _row(*children: Any) -> Any:
    layout = widgets.Layout(align_items="center", flex_flow="row wrap", width="100%")
    return widgets.HBox(list(children), layout=layout)
