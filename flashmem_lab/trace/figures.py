"""The two pictures of a trace, as plotly figures: what was held, and what each lane did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan.timeline import Event, Lane, Pool
from flashmem_lab.trace.runs import (
    DEVICE_POOLS,
    MemoryCurve,
    host_curve,
    memory_curve,
    rows_by_layer,
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
    TOTAL_COLOUR,
    axis,
    base_layout,
)
from flashmem_lab.trace.trace import Trace
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LANES = {Lane.DISK: "Disk", Lane.TRANSFER: "Transfer", Lane.COMPUTE: "Compute"}
Values = NDArray[np.float64]

# Which of the seven series of one half of the memory figure are seen. The host process holds the
# interpreter too and would dwarf the rest: it waits in the legend.
_BY_TIME = (True, True, True, True, True, True, "legendonly")
_BY_LAYER = (True, True, True, True, True, True, False)
_NONE = (False,) * 7


def memory_figure(predicted: Trace | None, measured: Trace | None, budget_bytes: int) -> go.Figure:
    """Device memory of the cold run: measured pools stacked, predicted total and budget as lines.

    With no measured trace the predicted pools are stacked. Buttons switch the x axis between time
    (ms), where the two differ by what the prediction got wrong, and layers, where they coincide:
    the runtime makes and frees objects in the plan's order.
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

    Seven over time, then the same seven over layers: the buttons show the ones or the others.
    """
    shown = measured if measured is not None else predicted
    other = predicted if measured is not None else None
    time = _Steps.over_time(shown), _Steps.over_time(other)
    layers = _over_layers(shown, other)
    return [
        *_series(shown, *time, budget_bytes, host=_host(shown), visible=True),
        *_series(shown, *layers, budget_bytes, host=_Steps.none(), visible=False),
    ]


@dataclass(frozen=True, slots=True)
class _Steps:
    """A step curve: levels hold from x[i] to x[i + 1].

    Attributes:
        x: ms or layer numbers; shape (n + 1,), the last one where the run ends.
        pools: decimal MB in each pool, the last value twice; shape (n + 1,) each.
        names: of the layer that runs then; n + 1 of them.
    """

    x: Values
    pools: Mapping[Pool, Values]
    names: Sequence[str] = ()

    @classmethod
    def none(cls) -> _Steps:
        return cls(np.zeros(0), {pool: np.zeros(0) for pool in Pool})

    @classmethod
    def over_time(cls, trace: Trace | None) -> _Steps:
        if trace is None or not (runs := split_runs(trace.timeline)):
            return cls.none()
        curve = memory_curve(runs[0])
        layers = curve.layer.tolist()
        return cls(
            np.append(curve.time_ns, curve.end_ns) / 1e6,
            {pool: _megabytes(held) for pool, held in curve.pools.items()},
            [_layer_name(trace, layer) for layer in (*layers, layers[-1])],
        )

    @classmethod
    def over_layers(cls, trace: Trace, curve: MemoryCurve, rows: list[int]) -> _Steps:
        layers = range(len(rows) + 1)
        return cls(
            np.array(layers, np.float64),
            {pool: _megabytes(held[rows]) for pool, held in curve.pools.items()},
            [_layer_name(trace, min(layer, len(rows) - 1)) for layer in layers],
        )


def _over_layers(shown: Trace | None, other: Trace | None) -> tuple[_Steps, _Steps]:
    """What was held while each layer ran, in the trace shown and in the one it is compared with."""
    found: list[_Steps] = []
    expected: list[tuple[int, ...]] | None = None
    for trace in (other, shown):
        runs = split_runs(trace.timeline) if trace is not None else ()
        curve = memory_curve(runs[0]) if runs else None
        rows = rows_by_layer(runs[0], curve, expected) if curve is not None else []
        if trace is None or curve is None or not rows:
            found.append(_Steps.none())
            continue
        states = curve.states()
        expected = [states[row] for row in rows]
        found.append(_Steps.over_layers(trace, curve, rows))
    return found[1], found[0]


def _host(trace: Trace | None) -> _Steps:
    if trace is None or not (runs := split_runs(trace.timeline)):
        return _Steps.none()
    times, held = host_curve(runs[0])
    return _Steps(times / 1e6, {Pool.HOST: held / 1e6})


def _series(
    trace: Trace | None,
    shown: _Steps,
    other: _Steps,
    budget_bytes: int,
    *,
    host: _Steps,
    visible: bool,
) -> list[dict[str, Any]]:
    """Three stacked pools, their total, the predicted total, the budget, the host process."""
    series: list[dict[str, Any]] = []
    stacked = np.zeros(len(shown.x))
    for pool in DEVICE_POOLS:
        stacked = stacked + shown.pools[pool]
        series.append(
            {
                "name": POOL_NAMES[pool],
                "x": shown.x,
                "y": stacked,
                "customdata": shown.pools[pool],
                "hovertemplate": "%{customdata:,.2f} MB",
                "line": {"shape": "hv", "width": 0, "color": POOL_COLOURS[pool]},
                "fill": "tonexty" if series else "tozeroy",
                "showlegend": bool(shown.pools[pool].any()),
                "fillcolor": _see_through(POOL_COLOURS[pool]),
            }
        )
    origin = "" if trace is None else "predicted" if trace.origin == "simulated" else "measured"
    end = max(float(steps.x.max(initial=0)) for steps in (shown, other))
    series += [
        {
            "name": f"Total {origin}".strip(),
            "x": shown.x,
            "y": stacked,
            "text": shown.names,
            "hovertemplate": "<b>%{y:,.2f} MB</b> · %{text}",
            "line": {"shape": "hv", "width": 1.6, "color": TOTAL_COLOUR},
        },
        {
            "name": "Total predicted",
            "x": other.x,
            "y": np.sum([other.pools[pool] for pool in DEVICE_POOLS], axis=0),
            "hovertemplate": "%{y:,.2f} MB",
            "line": {"shape": "hv", "width": 1.8, "color": PREDICTED_COLOUR, "dash": "dot"},
            "showlegend": len(other.x) > 0,
        },
        {
            "name": "Budget",
            "x": np.array([0, end]),
            "y": np.full(2, budget_bytes / 1e6),
            "hovertemplate": format_bytes(budget_bytes),
            "line": {"width": 1.6, "color": BUDGET_COLOUR, "dash": "dash"},
        },
        {
            "name": POOL_NAMES[Pool.HOST],
            "x": host.x,
            "y": host.pools[Pool.HOST],
            "hovertemplate": "%{y:,.1f} MB",
            "line": {"width": 1.4, "color": POOL_COLOURS[Pool.HOST], "dash": "dot"},
            "showlegend": len(host.x) > 0,
        },
    ]
    shown_from_start = _BY_TIME if visible else _NONE
    return [
        {"mode": "lines", "visible": state, "customdata": [], "text": [], "showlegend": True, **one}
        for one, state in zip(series, shown_from_start, strict=True)
    ]


def _megabytes(held: NDArray[np.int64]) -> Values:
    """Decimal MB, the last value twice: a step curve ends with a level, not with a change."""
    return np.append(held, held[-1:]) / 1e6


def _layer_name(trace: Trace, layer: int) -> str:
    if layer < 0:
        return "before the first layer"
    name = escape(_short(trace.layers[layer])) if layer < len(trace.layers) else ""
    return f"layer {layer} {name}"


def _short(name: str, limit: int = 60) -> str:
    """The end of a long ONNX name: scopes come first, the operator last."""
    return name if len(name) <= limit else "…" + name[1 - limit :]


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.55)"


def _memory_layout() -> dict[str, Any]:
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [{"visible": visible}, {"xaxis.title.text": title, "xaxis.autorange": True}],
        }
        for label, visible, title in (
            ("by time", [*_BY_TIME, *_NONE], "time (ms)"),
            ("by layer", [*_NONE, *_BY_LAYER], "layer"),
        )
    ]
    layout = base_layout(height=430)
    return {
        **layout,
        "margin": {**layout["margin"], "b": 84},
        "legend": {**layout["legend"], "y": -0.2, "yanchor": "top"},
        "xaxis": {**axis("time (ms)"), "rangemode": "tozero", "hoverformat": ",.6~g"},
        "yaxis": {**axis("held on the device (MB)"), "rangemode": "tozero"},
        "hovermode": "x unified",
        "updatemenus": [
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "showactive": True,
                "x": 0,
                "xanchor": "left",
                "y": 1.03,
                "yanchor": "bottom",
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
    if chosen is not None and chosen.length_ns:
        figure.update_xaxes(range=[0, chosen.length_ns / 1e6])
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
        **base_layout(height=260),
        "barmode": "overlay",
        "hovermode": "closest",
        "xaxis": axis("time (ms)"),
        "yaxis": {
            **axis(""),
            "autorange": "reversed",
            "fixedrange": True,
            "showgrid": False,
            "ticks": "",
        },
    }
