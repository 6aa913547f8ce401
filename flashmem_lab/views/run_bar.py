"""The row that runs a plan: Run and Stop, how often, compared or not, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from flashmem_lab.views import markup
from flashmem_lab.views.parts import row


class RunBar:
    """The widgets that say how to run, and how far a run is.

    Args:
        repeat: runs that a press of Run makes, to start with.
        can_check: whether outputs can be compared with onnxruntime's.

    Attributes:
        row: what to show.
    """

    def __init__(self, *, repeat: int, can_check: bool) -> None:
        self._run = widgets.Button(
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
        self.row: Any = row(
            *(self._run, self._stop, self._repeat, self._check, self._progress, self._status)
        )
        self._how: Callable[[], None] | None = None
        self._clicked: Mapping[Any, Callable[[], None]] = {}
        self._ready = True  # there is something to run
        self.busy = False

    @property
    def repeat(self) -> int:
        """Runs that a press of Run makes."""
        return int(self._repeat.value)

    @property
    def check(self) -> bool:
        """Whether outputs are to be compared with onnxruntime's."""
        return bool(self._check.value)

    @property
    def busy(self) -> bool:
        """Whether a run is under way: it can be stopped, and the progress bar is seen."""
        return self._busy

    @busy.setter
    def busy(self, value: bool) -> None:
        self._busy = value
        self._run.disabled = value or not self._ready
        self._stop.layout.display = None if value else "none"
        self._progress.layout.display = None if value else "none"
        self._progress.value = 0
        self._status.value = ""

    def say(self, text: str) -> None:
        """A word on what is going on, plain text."""
        self._status.value = markup.note(text)

    def progress_to(self, what: str, done: int, total: int) -> None:
        """Moves the progress bar."""
        self._progress.max = max(1, total)
        self._progress.value = done
        self._status.value = markup.progress(what, done, total)

    def wait(self, text: str) -> None:
        """There is nothing to run yet, and why; until `rest`."""
        self._ready, self._run.disabled = False, True
        self.say(text)

    def rest(self) -> None:
        """Nothing but a run is waited for."""
        self._ready, self._run.disabled = True, self.busy
        if not self.busy:
            self._status.value = ""

    def listen(
        self, *, how: Callable[[], None], run: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        """Calls `how` when another way to run is wanted, `run` and `stop` at their buttons."""
        self._how, self._clicked = how, {self._run: run, self._stop: stop}
        for widget in (self._repeat, self._check):
            widget.observe(self._on_how, names="value")
        for button in self._clicked:
            button.on_click(self._on_click)

    def close(self) -> None:
        """Detaches the listeners."""
        if self._how is not None:
            for widget in (self._repeat, self._check):
                widget.unobserve(self._on_how, names="value")
        for button in self._clicked:
            button.on_click(self._on_click, remove=True)
        self._how, self._clicked = None, {}

    def _on_how(self, change: Any) -> None:
        if self._how is not None:
            self._how()

    def _on_click(self, button: Any) -> None:
        if button in self._clicked:
            self._clicked[button]()
