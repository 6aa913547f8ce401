"""The two pictures of a trace, as plotly figures: what was held, and what each lane did."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan.timeline import Event, Lane, Pool
from flashmem_lab.trace.runs import (
    DEVICE_POOLS,
    MemoryCurve,
    Run,
    host_curve,
    memory_curve,
    split_runs,
)
from flashmem_lab.trace.style import (
    BUDGET_COLOUR,
    KIND_COLOURS,
    KIND_NAMES,
    OTHER_COLOUR,
    POOL_COLOURS,
    POOL_NAMES,
    PREDICTED_COLOUR,
    axis,
    base_layout,
)
from flashmem_lab.trace.trace import Trace
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LANES = {Lane.DISK: "Disk", Lane.TRANSFER: "Transfer", Lane.COMPUTE: "Compute"}
Values = NDArray[np.float64]


def memory_figure(predicted: Trace | None, measured: Trace | None, budget_bytes: int) -> go.Figure:
    """Device memory of the cold run: measured pools stacked, predicted total and budget as lines.

    With no measured trace the predicted pools are stacked. Buttons switch the x axis between time
    (ms), where the two differ by what the prediction got wrong, and memory commands in order,
    where they coincide: the runtime makes and frees objects in the plan's order.
    """
    import plotly.graph_objects as go

    return go.Figure(
        data=[go.Scatter(**series) for series in memory_series(predicted, measured, budget_bytes)],
        layout=_memory_layout(),
    )


def memory_series(
    predicted: Trace | None, measured: Trace | None, budget_bytes: int
) -> list[dict[str, Any]]:
    """The scatter traces of `memory_figure` as keyword arguments.

    Their number, order and meaning never change, so that a live figure is updated in place: seven
    over time, then the same seven over memory commands.
    """
    shown = measured if measured is not None else predicted
    compared = predicted if measured is not None else None
    return [
        *_series(shown, compared, budget_bytes, by_time=True),
        *_series(shown, compared, budget_bytes, by_time=False),
    ]


def _series(
    shown: Trace | None, compared: Trace | None, budget_bytes: int, *, by_time: bool
) -> list[dict[str, Any]]:
    run, curve = _first(shown)
    x = _abscissa(curve, by_time)
    origin = "" if shown is None else (" predicted" if shown.origin == "simulated" else " measured")
    series: list[dict[str, Any]] = []
    stacked = np.zeros(len(x))
    for pool in DEVICE_POOLS:
        held = _megabytes(curve.pools[pool]) if curve is not None else stacked
        stacked = stacked + held
        series.append(
            {
                "name": POOL_NAMES[pool],
                "x": x,
                "y": stacked,
                "customdata": held,
                "hovertemplate": "%{customdata:,.2f} MB",
                "line": {"shape": "hv", "width": 0, "color": POOL_COLOURS[pool]},
                "fill": "tonexty" if series else "tozeroy",
                "fillcolor": _see_through(POOL_COLOURS[pool]),
            }
        )
    series.append(
        {
            "name": f"Total{origin}",
            "x": x,
            "y": stacked,
            "text": _layer_names(shown, curve),
            "hovertemplate": "<b>%{y:,.2f} MB</b> · %{text}",
            "line": {"shape": "hv", "width": 1.6, "color": "#2f5597"},
        }
    )
    _, other = _first(compared)
    x_other = _abscissa(other, by_time)
    series.append(
        {
            "name": "Total predicted",
            "x": x_other,
            "y": _megabytes(other.total) if other is not None else np.zeros(0),
            "hovertemplate": "%{y:,.2f} MB",
            "line": {"shape": "hv", "width": 1.8, "color": PREDICTED_COLOUR, "dash": "dot"},
            "showlegend": other is not None,
        }
    )
    end = max(float(ends.max(initial=0)) for ends in (x, x_other))
    series.append(
        {
            "name": "Budget",
            "x": np.array([0, end]),
            "y": np.full(2, budget_bytes / 1e6),
            "hovertemplate": f"{format_bytes(budget_bytes)}",
            "line": {"width": 1.6, "color": BUDGET_COLOUR, "dash": "dash"},
        }
    )
    host_x, host = host_curve(run) if run is not None and by_time else (np.zeros(0), np.zeros(0))
    series.append(
        {
            "name": POOL_NAMES[Pool.HOST],
            "x": host_x / 1e6,
            "y": host / 1e6,
            "hovertemplate": "%{y:,.1f} MB",
            "line": {"width": 1.4, "color": POOL_COLOURS[Pool.HOST], "dash": "dot"},
            "visible": "legendonly" if by_time else False,  # it holds the interpreter: other scale
            "showlegend": len(host_x) > 0,
        }
    )
    return [{"mode": "lines", "visible": by_time, **one} for one in series]


def _first(trace: Trace | None) -> tuple[Run | None, MemoryCurve | None]:
    runs = split_runs(trace.timeline) if trace is not None else ()
    return (runs[0], memory_curve(runs[0])) if runs else (None, None)


def _abscissa(curve: MemoryCurve | None, by_time: bool) -> Values:
    """Milliseconds or number of the memory command, with one more entry where the run ends."""
    if curve is None:
        return np.zeros(0)
    if by_time:
        return np.append(curve.time_ns, curve.end_ns) / 1e6
    return np.arange(len(curve.time_ns) + 1, dtype=np.float64)


def _megabytes(held: NDArray[np.int64]) -> Values:
    """Decimal MB, the last value twice: a step curve ends with a level, not with a change."""
    return np.append(held, held[-1:]) / 1e6


def _layer_names(trace: Trace | None, curve: MemoryCurve | None) -> list[str]:
    if trace is None or curve is None:
        return []
    names = ["before the first layer", *(escape(_short(name)) for name in trace.layers)]
    layers = np.append(curve.layer, curve.layer[-1:]).tolist()
    return [names[layer + 1] if layer + 1 < len(names) else f"layer {layer}" for layer in layers]


def _short(name: str, limit: int = 60) -> str:
    """The end of a long ONNX name: scopes come first, the operator last."""
    return name if len(name) <= limit else "…" + name[1 - limit :]


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.55)"


def _memory_layout() -> dict[str, Any]:
    half = 7
    time = [True] * (half - 1) + ["legendonly"] + [False] * half
    order = [False] * half + [True] * (half - 1) + [False]
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [{"visible": visible}, {"xaxis.title.text": title, "xaxis.autorange": True}],
        }
        for label, visible, title in (
            ("by time", time, "time (ms)"),
            ("by memory command", order, "memory commands (allocations and frees) in order"),
        )
    ]
    return {
        **base_layout(height=420),
        "xaxis": {**axis("time (ms)"), "rangemode": "tozero"},
        "yaxis": {**axis("held on the device (MB)"), "rangemode": "tozero"},
        "hovermode": "x unified",
        "updatemenus": [
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "showactive": True,
                "x": 1,
                "xanchor": "right",
                "y": 1.02,
                "yanchor": "bottom",
                "pad": {"b": 2, "t": 2},
                "font": {"size": 12, "color": "#374151"},
                "bgcolor": "#eef1f4",
                "bordercolor": "#c7ced6",
            }
        ],
    }


def schedule_figure(trace: Trace, run: int = 0) -> go.Figure:
    """What the disk, transfer and compute lanes did over time in one run, coloured by kind.

    One bar trace for each kind of event, so that thousands of events stay quick to draw.
    """
    import plotly.graph_objects as go

    chosen = next((one for one in split_runs(trace.timeline) if one.index == run), None)
    events = chosen.events if chosen is not None else ()
    kinds = sorted({e.kind for e in events}, key=lambda k: ([*KIND_NAMES, k].index(k), k))
    figure = go.Figure(layout=_schedule_layout())
    for lane in _LANES.values():  # keeps all three lanes, in order, even where one is idle
        figure.add_bar(x=[None], y=[lane], orientation="h", showlegend=False, hoverinfo="skip")
    for kind in kinds:
        figure.add_bar(**_bars(trace, kind, [event for event in events if event.kind == kind]))
    return figure


def _bars(trace: Trace, kind: str, events: Sequence[Event]) -> dict[str, Any]:
    starts = np.array([event.start_ns for event in events], np.float64) / 1e6
    ends = np.array([event.end_ns for event in events], np.float64) / 1e6
    return {
        "name": KIND_NAMES.get(kind, escape(kind)),
        "orientation": "h",
        "base": starts,
        "x": ends - starts,
        "y": [_LANES[event.lane] for event in events],
        "width": 0.92 if kind == "stall" else 0.72,
        "marker": {
            "color": KIND_COLOURS.get(kind, OTHER_COLOUR),
            "opacity": 0.55 if kind == "stall" else 1,
            "line": {"width": 0},
        },
        "hovertext": [_describe(trace, event) for event in events],
        "hoverinfo": "text",
        "textposition": "none",
    }


def _describe(trace: Trace, event: Event) -> str:
    lines = [f"<b>{escape(_short(event.name))}</b>", KIND_NAMES.get(event.kind, escape(event.kind))]
    if event.weight and event.weight != event.name:
        lines.append(f"weight {escape(_short(event.weight))}")
    if 0 <= event.layer < len(trace.layers):
        lines.append(f"layer {event.layer}: {escape(_short(trace.layers[event.layer]))}")
    if event.bytes:
        lines.append(format_bytes(event.bytes))
    length = format_ms((event.end_ns - event.start_ns) / 1e6)
    lines.append(f"{length}, from {format_ms(event.start_ns / 1e6)}")
    return "<br>".join(lines)


def _schedule_layout() -> dict[str, Any]:
    return {
        **base_layout(height=300),
        "barmode": "overlay",
        "hovermode": "closest",
        "xaxis": {**axis("time (ms)"), "rangemode": "tozero"},
        "yaxis": {
            **axis(""),
            "autorange": "reversed",
            "fixedrange": True,
            "showgrid": False,
            "ticks": "",
        },
    }
