"""Two runs side by side: figures in a table, memory in a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from importlib import import_module
from threading import Thread
from typing import Any

import ipywidgets as widgets

from flashmem_lab.trace.style import PREDICTED_COLOUR, TOTAL_COLOUR, axis, base_layout
from flashmem_lab.units import format_bytes, format_ms
from flashmem_lab.views import markup
from flashmem_lab.views.fit import fit
from flashmem_lab.views.past import Past

_FIGURES: Sequence[tuple[str, str, Callable[[Any], str]]] = (
    ("budget", "budget_bytes", format_bytes),
    ("peak", "peak_bytes", format_bytes),
    ("average", "average_bytes", format_bytes),
    ("to the first output", "cold_ms", format_ms),
    ("first run", "first_run_ms", format_ms),
    ("later runs", "warm_ms", format_ms),
    ("stalled", "stall_ms", format_ms),
)


class CompareView:
    """Compares any two of the runs so far.

    Attributes:
        box: the widget to show.
    """

    def __init__(self) -> None:
        self._runs: Sequence[Past] = ()
        self._hint = widgets.HTML(
            markup.note(
                "Run at least twice, with another budget, schedule or device in between; "
                "then any two runs are compared here."
            )
        )
        layout = widgets.Layout(width="380px")
        self._choices = [
            widgets.Dropdown(description=name, options=[], layout=layout)
            for name in ("Run", "against")
        ]
        self._table = widgets.HTML(layout=widgets.Layout(width="100%"))
        self._figure: Any = None  # until there are two runs
        self._chooser = widgets.HBox(self._choices)
        self._fit = fit()
        self.box = widgets.VBox([self._hint], layout=widgets.Layout(width="100%"))
        for choice in self._choices:
            choice.observe(self._changed, names="value")

    def show(self, runs: Sequence[Past]) -> None:
        """Offers runs, and compares the last one with the one before."""
        self._runs = runs
        if len(runs) < 2:
            return
        if self._figure is None:
            self._figure = _figure()
        options = [(_name(one), at) for at, one in enumerate(runs)]
        for choice, value in zip(self._choices, (len(options) - 1, len(options) - 2), strict=True):
            choice.options = options
            choice.value = value
        self.box.children = (self._chooser, self._table, self._figure, self._fit)
        self._changed(None)

    def close(self) -> None:
        """Removes every widget."""
        for choice in self._choices:
            choice.unobserve(self._changed, names="value")
        shown = (self._chooser, self._hint, self._table, self._figure, self._fit)
        for widget in (*self._choices, *shown):
            if widget is not None:
                widget.close()
        self.box.close()

    def _changed(self, change: Any) -> None:
        chosen = [choice.value for choice in self._choices]
        if None in chosen:
            return
        one, other = both = [self._runs[at] for at in chosen]
        self._table.value = markup.comparison(
            [f"run {run.number}" for run in both],
            [
                (name, show(a), show(b), _relation(a, b))
                for name, field, show in _FIGURES
                if (a := getattr(one.row, field)) is not None
                and (b := getattr(other.row, field)) is not None
            ],
        )
        self._figure.plotly_update(
            restyle_data={
                "x": [list(run.time_ms) for run in both],
                "y": [[held / 1e6 for held in run.held] for run in both],
                "name": [f"run {run.number}: {escape(run.row.label)}" for run in both],
            },
            trace_indexes=[0, 1],
        )


def _name(run: Past) -> str:
    """Of a run among others that may differ in their budget alone."""
    budget = run.row.budget_bytes
    return f"{run.number}: {run.row.label}" + (f" · {format_bytes(budget)}" if budget else "")


def _relation(value: float, reference: float) -> str:
    """A value beside a reference, in percent of it."""
    return f"{100 * (value / reference - 1):+.1f} %" if reference else ""


def _figure() -> Any:
    """Two step curves, bytes held over the time of the first run."""
    import plotly.graph_objects as go  # takes a second, which opening a model need not wait for

    lines = [
        go.Scatter(x=[], y=[], mode="lines", line={"shape": "hv", "color": colour})
        for colour in (TOTAL_COLOUR, PREDICTED_COLOUR)
    ]
    picture = {
        **base_layout(height=300),
        "xaxis": axis("time of the first run (ms)"),
        "yaxis": {**axis("held on the device (MB)"), "rangemode": "tozero"},
        "showlegend": True,
    }
    figure = go.FigureWidget(data=lines, layout=picture)
    figure.set_trait("_config", {"responsive": True, "displaylogo": False})
    return figure


def prepare() -> None:
    """Loads what draws the picture, in a thread: a second, else spent when a second run ends."""
    module = partial(import_module, "plotly.basewidget")
    Thread(target=module, name="flashmem-lab plotly", daemon=True).start()
