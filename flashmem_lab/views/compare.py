"""Two runs side by side: figures in a table, memory in a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from flashmem_lab.trace import RunRow, Trace
from flashmem_lab.trace.runs import memory_curve, split_runs
from flashmem_lab.trace.style import PREDICTED_COLOUR, TOTAL_COLOUR, axis, base_layout
from flashmem_lab.units import format_bytes, format_ms
from flashmem_lab.views import markup
from flashmem_lab.views.fit import fit

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
        self._rows: list[RunRow] = []
        self._traces: list[Trace] = []
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
        self._figure = go.FigureWidget(data=lines, layout=picture)
        self._figure.set_trait("_config", {"responsive": True, "displaylogo": False})
        self._chooser = widgets.HBox(self._choices)
        self._fit = fit()
        self.box = widgets.VBox([self._hint], layout=widgets.Layout(width="100%"))
        for choice in self._choices:
            choice.observe(self._changed, names="value")

    def add(self, row: RunRow, trace: Trace) -> None:
        """Adds a run, and compares it with the one before."""
        self._rows.append(row)
        self._traces.append(trace)
        if len(self._rows) < 2:
            return
        options = [(f"{at}: {one.label}", at - 1) for at, one in enumerate(self._rows, 1)]
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
            widget.close()
        self.box.close()

    def _changed(self, change: Any) -> None:
        chosen = [choice.value for choice in self._choices]
        if None in chosen:
            return
        one, other = (self._rows[at] for at in chosen)
        self._table.value = markup.comparison(
            [f"run {at + 1}" for at in chosen],
            [
                (name, show(a), show(b), _relation(a, b))
                for name, field, show in _FIGURES
                if (a := getattr(one, field)) is not None
                and (b := getattr(other, field)) is not None
            ],
        )
        curves = [_total(self._traces[at]) for at in chosen]
        self._figure.plotly_update(
            restyle_data={
                "x": [x for x, _ in curves],
                "y": [y for _, y in curves],
                "name": [f"run {at + 1}: {escape(self._rows[at].label)}" for at in chosen],
            },
            trace_indexes=[0, 1],
        )


def _relation(value: float, reference: float) -> str:
    """A value beside a reference, in percent of it."""
    return f"{100 * (value / reference - 1):+.1f} %" if reference else ""


def _total(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Time (ms) and bytes held (decimal MB) of the first run; a step curve."""
    runs = split_runs(trace.timeline)
    if not runs:
        return np.zeros(0), np.zeros(0)
    curve = memory_curve(runs[0])
    times = np.append(curve.time_ns, curve.end_ns) / 1e6
    return times, np.append(curve.total, curve.total[-1:]) / 1e6
