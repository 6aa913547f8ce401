"""A self-contained HTML report: one file that shows a run, or several models, without a network.

The caller fills plain values; everything that is text is escaped by the template, and plotly.js is
inlined once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.trace.statistics import statistics
from flashmem_lab.trace.summary import GraphSummary
from flashmem_lab.trace.trace import Trace
from flashmem_lab.trace.write import write_file
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    import plotly.graph_objects as go

_NONE = "n/a"
_MOST_EVENTS = 20_000  # a browser draws this many bars in about a second


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the table of runs; None is a figure that was not taken.

    Attributes:
        label: "streamed, 30 %", "full preload", ...
        budget_bytes, peak_bytes, average_bytes: bytes on the device.
        host_rss_bytes: peak resident set of the process above its baseline.
        cold_ms: to the first output, model path in hand: opening, planning, packing, compiling.
        first_run_ms: the run in it, program and kernels ready.
        warm_ms: a later run.
        stall_ms: time the compute lane waited for weights, cold.
        predicted_peak_bytes, predicted_ms: the simulator's peak and first run.
        check: comparison with the reference, such as "ok, 3e-07".
    """

    label: str
    budget_bytes: int | None = None
    peak_bytes: int | None = None
    average_bytes: int | None = None
    host_rss_bytes: int | None = None
    cold_ms: float | None = None
    first_run_ms: float | None = None
    warm_ms: float | None = None
    stall_ms: float | None = None
    predicted_peak_bytes: int | None = None
    predicted_ms: float | None = None
    check: str = ""

    @classmethod
    def of(cls, label: str, figures: Mapping[str, Any]) -> RunRow:
        """The row of a run whose `run --json` is `figures`; host memory is above the baseline."""
        check = figures["check"]
        warm = figures["warm_ms"]
        rss = figures["host_rss_peak_bytes"]
        return cls(
            label=label,
            budget_bytes=figures["budget_bytes"],
            peak_bytes=figures["peak_bytes"]["total"],
            average_bytes=figures["average_bytes"],
            host_rss_bytes=max(0, rss - figures["host_rss_baseline_bytes"]) if rss else None,
            cold_ms=figures["cold_ms"],
            first_run_ms=figures["first_run_ms"],
            warm_ms=sum(warm) / len(warm) if warm else None,
            stall_ms=figures["stall_ms"],
            predicted_peak_bytes=figures["predicted"]["peak_bytes"],
            predicted_ms=figures["predicted"]["cold_ms"],
            check=f"{'ok' if check['ok'] else 'differs'}, {check['rel_l2']:.0e}" if check else "",
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG shown in the report."""

    png: bytes
    caption: str


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One model.

    Attributes:
        title, text: heading, and a sentence or two below it.
        device, precision, strategy: how it ran.
        summary: of the model, or None.
        runs: the main run first, then what it is compared with (full preload).
        predicted, measured: traces of the main run, either may be None.
        budget_bytes, min_budget_bytes, preload_peak_bytes: the scale, bytes.
    """

    title: str
    device: str
    precision: str
    strategy: str
    runs: Sequence[RunRow]
    budget_bytes: int
    min_budget_bytes: int
    preload_peak_bytes: int
    text: str = ""
    summary: GraphSummary | None = None
    predicted: Trace | None = None
    measured: Trace | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in large print, what it is, and a remark."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Chart:
    id: str
    json: str


@dataclass(frozen=True, slots=True)
class _Block:
    """A section as the template wants it."""

    section: ReportSection
    tiles: Sequence[Tile]
    charts: Sequence[tuple[str, str, _Chart]]  # heading, remark, figure
    lanes: Sequence[Tile] = field(default_factory=tuple)


def write_html(
    path: Path,
    sections: Sequence[ReportSection],
    *,
    title: str,
    lead: str = "",
    tiles: Sequence[Tile] = (),
    pictures: Sequence[Picture] = (),
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the report.

    Args:
        path: the file to write.
        sections: one for each model, in order.
        title: heading of the page.
        lead: a paragraph below it.
        tiles: results of the whole (the words read, ...), shown before the sections.
        pictures: shown below the lead.
        facts: versions and the like, shown at the foot.

    Raises:
        FlashMemError: the file cannot be written.
    """
    write_file(path, render_html(sections, title, lead, tiles, pictures, facts or {}), "reporting")


def render_html(
    sections: Sequence[ReportSection],
    title: str,
    lead: str,
    tiles: Sequence[Tile],
    pictures: Sequence[Picture],
    facts: Mapping[str, str],
) -> str:
    """The report as text; see `write_html`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("flashmem_lab.trace", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=_size, ms=_ms, big=_big)
    return environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        tiles=tiles,
        pictures=[(base64.b64encode(one.png).decode("ascii"), one.caption) for one in pictures],
        blocks=[_block(section, f"s{number}") for number, section in enumerate(sections)],
        facts=facts,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        plotly_js=get_plotlyjs(),
    )


def _block(section: ReportSection, prefix: str) -> _Block:
    from flashmem_lab.trace.figures import memory_figure, schedule_figure

    charts: list[tuple[str, str, _Chart]] = []
    shown = section.measured or section.predicted
    if shown is not None and len(shown.timeline.events) <= _MOST_EVENTS:
        what = "as predicted" if section.measured is None else "as measured"
        remark = "One bar for each read, upload and kernel; drag to zoom, double-click to go back."
        chart = _chart(f"{prefix}-schedule", schedule_figure(shown))
        charts.append((f"Schedule of the cold run, {what}", remark, chart))
    if shown is not None:
        remark = (
            "What the device holds from moment to moment. Layer by layer instead of over time, "
            "prediction and measurement coincide: objects are made and freed in the plan's order."
        )
        figure = memory_figure(section.predicted, section.measured, section.budget_bytes)
        charts.append(("Memory of the cold run", remark, _chart(f"{prefix}-memory", figure)))
    return _Block(
        section=section,
        tiles=_tiles(section),
        charts=charts,
        lanes=_lanes(shown) if shown is not None else (),
    )


def _chart(identity: str, figure: go.Figure) -> _Chart:
    # "</" would end the script element in which the JSON stands.
    data: str = json.dumps(json.loads(figure.to_json())).replace("</", "<\\/")
    return _Chart(identity, data)


def _tiles(section: ReportSection) -> list[Tile]:
    main = section.runs[0] if section.runs else RunRow("")
    span = section.preload_peak_bytes - section.min_budget_bytes
    share = 100 * (section.budget_bytes - section.min_budget_bytes) / span if span > 0 else 100
    tiles = [
        Tile(
            "Budget",
            format_bytes(section.budget_bytes),
            f"{share:.0f} % of the scale, which starts at {format_bytes(section.min_budget_bytes)}",
        ),
        Tile("Full preload", format_bytes(section.preload_peak_bytes), "peak with every weight in"),
    ]
    if main.peak_bytes is not None:
        less = 100 * (1 - main.peak_bytes / max(1, section.preload_peak_bytes))
        predicted = (
            f"predicted {_size(main.predicted_peak_bytes)}, " if main.predicted_peak_bytes else ""
        )
        tiles.append(
            Tile("Peak measured", _size(main.peak_bytes), f"{predicted}{less:.0f} % below preload")
        )
    elif main.predicted_peak_bytes is not None:
        tiles.append(Tile("Peak predicted", _size(main.predicted_peak_bytes)))
    if main.average_bytes is not None:
        tiles.append(Tile("Average held", _size(main.average_bytes), "over the time of all runs"))
    if main.cold_ms is not None:
        tiles.append(Tile("Cold", _ms(main.cold_ms), "from the model's path to its output"))
    if main.first_run_ms is not None:
        note = f"predicted {_ms(main.predicted_ms)}" if main.predicted_ms else "kernels ready"
        tiles.append(Tile("First run", _ms(main.first_run_ms), note))
    if main.warm_ms is not None:
        tiles.append(Tile("Warm", _ms(main.warm_ms), "mean of later runs"))
    if main.host_rss_bytes is not None:
        note = "peak resident set above the interpreter's own"
        tiles.append(Tile("Host process", _size(main.host_rss_bytes), note))
    return tiles


def _lanes(trace: Trace) -> list[Tile]:
    runs = statistics(trace).runs
    if not runs:
        return []
    cold = runs[0]
    length = max(1, cold.duration_ns)
    tiles = [
        Tile(f"{lane} busy", f"{100 * busy / length:.0f} %", format_ms(busy / 1e6))
        for lane, busy in cold.busy_ns.items()
    ]
    return [
        *tiles,
        Tile("stalled", f"{100 * cold.stall_ns / length:.0f} %", format_ms(cold.stall_ns / 1e6)),
        Tile(
            "moving while computing",
            f"{100 * cold.overlap_ns / length:.0f} %",
            format_ms(cold.overlap_ns / 1e6),
        ),
    ]


def _size(count: float | None) -> str:
    return _NONE if count is None else format_bytes(count)


def _ms(milliseconds: float | None) -> str:
    return _NONE if milliseconds is None else format_ms(milliseconds)


def _big(count: Any) -> str:
    """A large count for people: 16.3 G."""
    value = float(count)
    for unit in ("", " k", " M", " G"):
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"
