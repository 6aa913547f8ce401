"""The page of a workbench from top to bottom: what to choose, what is said, what is drawn."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from flashmem_lab.lower.layer import Precision
from flashmem_lab.views import markup
from flashmem_lab.views.choices import Choices
from flashmem_lab.views.parts import wide
from flashmem_lab.views.run_bar import RunBar


class Controls:
    """Everything that is seen of a workbench; it knows nothing of models and plans.

    Args:
        device: the id to start with, until it is known which there are.
        precision: the precision to start with.
        repeat: runs that a press of Run makes.
        can_check: whether outputs can be compared with onnxruntime's.

    Attributes:
        choices: say how to plan.
        run_bar: says how to run, and how far a run is.
        box: the widget to show.
    """

    def __init__(self, device: str, precision: Precision, *, repeat: int, can_check: bool) -> None:
        self.choices = Choices(device, precision)
        self.run_bar = RunBar(repeat=repeat, can_check=can_check)
        self._summary = widgets.HTML(layout=wide())
        self._budget = widgets.HTML(layout=wide())
        self._prediction = widgets.HTML(layout=wide())
        self._error = widgets.HTML(layout=wide())
        self._result = widgets.HTML(layout=wide())
        self._history = widgets.HTML(layout=wide())
        self._pictures: Any = None  # until there are any
        self.box: Any = widgets.VBox(layout=wide())
        self.box.add_class("fml-bench")  # of `markup.STYLE`

    def lay_out(self, live: Any, exports: Any, pictures: Any) -> None:
        """Puts everything in its place.

        Args:
            live: what a run holds, below the row that runs.
            exports: what can be taken away, above the pictures.
            pictures: below all of it but the history.
        """
        self._pictures = pictures
        self.box.children = (
            widgets.HTML(markup.STYLE, layout=widgets.Layout(display="none")),
            self._summary,
            *self.choices.rows,
            self._budget,
            self._prediction,
            self.run_bar.row,
            live,
            self._error,
            self._result,
            exports,
            pictures,
            self._history,
        )

    def introduce(self, summary: str) -> None:
        """Shows what a model is, as HTML."""
        self._summary.value = summary

    def show(self, *, budget: str, prediction: str) -> None:
        """Shows a plan, as HTML; an error shown before goes."""
        self._budget.value, self._prediction.value, self._error.value = budget, prediction, ""
        self._rest()

    def nothing(self, error: BaseException) -> None:
        """There is no plan, and why; so there is nothing to run."""
        self._budget.value = self._prediction.value = ""
        self.fail(error)
        self.run_bar.wait("")

    def fail(self, error: BaseException) -> None:
        """Shows an error in place."""
        self._error.value = markup.failure(error)
        self._rest()

    def wait(self, text: str) -> None:
        """What is shown is not what is chosen, and why; until `show` or `fail`."""
        self._error.value = ""
        self._pictures.add_class("fml-stale")
        self.run_bar.wait(text)

    def begin_run(self) -> None:
        """A run begins; what was wrong before is no matter."""
        self._error.value = ""
        self.run_bar.busy = True

    def report(self, result: str, history: str) -> None:
        """Shows what a run measured, as HTML."""
        self._result.value = result
        self._history.value = history

    def close(self) -> None:
        """Detaches the listeners and closes every widget."""
        self.choices.close()
        self.run_bar.close()
        for child in self.box.children:
            for inner in getattr(child, "children", ()):
                inner.close()
            child.close()
        self.box.close()

    def _rest(self) -> None:
        self._pictures.remove_class("fml-stale")
        self.run_bar.rest()
