"""The workbench's pieces of HTML; every text that comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from math import ceil, isfinite
from typing import TYPE_CHECKING

from flashmem_lab.errors import BudgetTooSmall, FlashMemError
from flashmem_lab.plan.plan import Status, Strategy
from flashmem_lab.trace import GraphSummary, RunRow
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    from flashmem_lab.lower.layer import LoweredModel
    from flashmem_lab.plan import Plan
    from flashmem_lab.plan.queue import QueuePlan
    from flashmem_lab.queues import QueueOutcome
    from flashmem_lab.views.past import Past

# Of menus in a dark theme: ipywidgets draws theirs black. As in a URL, "#" is %23.
_ARROW = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'>"
    "<path d='M5 7l4 4 4-4' fill='none' stroke='%23ccc' stroke-width='1.8'/></svg>"
)
_COUNTED = 100_000  # layers, kernels and runs are fewer: a larger total is one of bytes

STYLE = f"""<style>
.fml {{ line-height: 1.45; font-variant-numeric: tabular-nums; }}
.fml {{ color: var(--jp-ui-font-color1, #222); }}
.fml h3 {{ margin: 2px 0 0; font-size: 17px; }}
.fml .soft {{ color: var(--jp-ui-font-color2, #666); }}
.fml b {{ font-weight: 600; }}
.fml .error {{ border-left: 3px solid #e5484d; padding: 4px 10px; background: #e5484d17; }}
.fml .ok {{ color: var(--jp-success-color1, #1d7a4f); }}
.fml .bad {{ color: var(--jp-error-color1, #e5484d); }}
.fml table {{ border-collapse: collapse; font-size: 12.5px; }}
.fml th {{ text-align: right; font-weight: 500; color: var(--jp-ui-font-color2, #666); }}
.fml td {{ text-align: right; }} .fml td, .fml th {{ padding: 2px 12px 2px 0; }}
.fml .history td:nth-child(3), .fml .history th:nth-child(3) {{ text-align: left; }}
.fml .history tbody tr:first-child td {{ font-weight: 600; }}
.fml .comparison td:first-child {{ text-align: left; }}
.fml .beside {{ display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: start; }}
.fml .beside td, .fml .beside th {{ white-space: nowrap; }}
.fml .comparison th:first-child {{ text-align: left; }}
.fml .live {{ display: flex; gap: 12px; align-items: center; }}
.fml svg {{ border-bottom: 1px solid var(--jp-border-color2, #ccc); }}
.fml polyline {{ fill: none; stroke: var(--jp-brand-color1, #1668c7); stroke-width: 1.6; }}
.fml-stale {{ opacity: .45; }}
.fml .cap {{ stroke: #e5484d; stroke-dasharray: 4 3; }}
[data-jp-theme-light="false"] .fml-bench {{ --jp-widgets-dropdown-arrow: url("{_ARROW}"); }}
[data-jp-theme-light="false"] .fml-bench .js-plotly-plot text {{
  fill: var(--jp-ui-font-color1) !important; /* plotly's own are for a light page */
}}
</style>"""


def summary(model: LoweredModel, figures: GraphSummary) -> str:
    """A model in four lines: what goes in and out, its layers, weights and work."""
    ports = [
        ", ".join(f"{escape(p.name)} {list(p.shape)}" for p in side)
        for side in (model.inputs, model.outputs)
    ]
    classes = ", ".join(f"{count} {escape(name)}" for name, count in figures.classes.items())
    hosted = len(figures.host_layers)
    where = f", {hosted} on the host" if hosted else ", all of them on the device"
    return _block(
        f"<h3>{escape(model.name)}</h3>"
        f"<div class='soft'>{ports[0]} → {ports[1]}</div>"
        f"<div><b>{figures.layers}</b> layers ({classes}){where} · "
        f"<b>{format_bytes(figures.weight_bytes)}</b> in {figures.weights} weights, the largest "
        f"{format_bytes(figures.largest_weight_bytes)} · "
        f"<b>{figures.flops / 1e9:,.1f}</b> GFLOP a run</div>"
    )


def budget(plan: Plan, percent: float) -> str:
    """The budget in bytes and on the slider's scale, and the bounds that the edits leave."""
    least = "least with these edits" if plan.constraints else "least feasible"
    return _block(
        f"<b>{format_bytes(plan.budget_bytes)}</b> · {percent:.1f} % "
        f"<span class='soft'>from {format_bytes(plan.min_budget_bytes)} ({least}) to "
        f"{format_bytes(plan.preload_peak_bytes)} (full preload)</span>"
    )


def prediction(plan: Plan, streamed_bytes: int) -> str:
    """What the simulator expects of a plan."""
    expected = plan.predicted
    return _block(
        f"predicted: peak <b>{format_bytes(expected.peak_bytes)}</b>, average "
        f"{format_bytes(expected.average_bytes)}, first run <b>{format_ms(expected.cold_ms)}</b>, "
        f"later runs {format_ms(expected.warm_ms)} <span class='soft'>· "
        f"{len(plan.preloaded)} weights preloaded, {len(plan.streamed)} streamed "
        f"({format_bytes(streamed_bytes)} a run) "
        f"· planned in {format_ms(plan.solve_ms)}{_gap(plan)}</span>"
    )


def _gap(plan: Plan) -> str:
    """How far the solver's plan is at most from the best one."""
    if plan.strategy is not Strategy.LC_OPG:
        return ""
    if plan.status is Status.OPTIMAL:
        return ", proven best"
    if not isfinite(plan.gap):
        return ""
    return f", at most {ceil(1000 * plan.gap) / 10:.1f} % from the best"  # up: "0.0" is not proven


def result(row: RunRow) -> str:
    """What a run measured, in one line."""
    pieces = [f"<b>{escape(row.label)}</b>"]
    if row.peak_bytes is not None:
        pieces.append(f"peak <b>{format_bytes(row.peak_bytes)}</b>")
    if row.first_run_ms is not None:
        pieces.append(f"first run <b>{format_ms(row.first_run_ms)}</b>")
    if row.warm_ms is not None:
        pieces.append(f"later runs {format_ms(row.warm_ms)}")
    if row.stall_ms is not None:
        pieces.append(f"stalled {format_ms(row.stall_ms)}")
    if row.check:
        pieces.append(f"onnxruntime: {_check(row)}")
    return _block(" · ".join(pieces))


def history(runs: Sequence[Past]) -> str:
    """The runs so far, the latest first."""
    titles = (
        "#",
        "when",
        "run",
        "budget",
        "peak",
        "predicted",
        "first run",
        "later",
        "stalled",
        "check",
    )
    head = "".join(f"<th>{title}</th>" for title in titles)
    lines = [
        f"<tr><td>{run.number}</td><td>{_when(run.ended_s)}</td><td>{escape(run.row.label)}</td>"
        + "".join(
            f"<td>{'' if value is None else show(value)}</td>"
            for value, show in (
                (run.row.budget_bytes, format_bytes),
                (run.row.peak_bytes, format_bytes),
                (run.row.predicted_peak_bytes, format_bytes),
                (run.row.first_run_ms, format_ms),
                (run.row.warm_ms, format_ms),
                (run.row.stall_ms, format_ms),
            )
        )
        + f"<td>{_check(run.row)}</td></tr>"
        for run in reversed(runs)
    ]
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _block(f"<table class='history'>{table}</table>")


def _when(seconds: float) -> str:
    """A moment, seconds since 1970, on the clock of the kernel."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%d %b %H:%M}" if seconds else ""


def comparison(names: Sequence[str], rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Two runs: a figure, what it is in one, in the other, and their relation."""
    return _block(_table(("figure", *names, "difference"), rows))


def progress(what: str, done: int, total: int) -> str:
    """How far a job is."""
    if total > _COUNTED:
        return note(f"{what}: {format_bytes(done)} of {format_bytes(total)}")
    return note(f"{what}: {done} of {total}")


def place(number: int, name: str) -> str:
    """A place of a queue."""
    return _block(f"<span class='soft'>{number}</span> <b>{escape(name)}</b>")


def queue_plan(planned: QueuePlan) -> str:
    """What a joint plan takes."""
    plan = planned.plan
    kept = planned.kept_bytes
    stays = f", {format_bytes(kept)} stay for a later round" if kept else ""
    return _block(
        f"cap <b>{format_bytes(plan.budget_bytes)}</b> <span class='soft'>from "
        f"{format_bytes(planned.least_bytes)} (least feasible) to "
        f"{format_bytes(planned.preload_peak_bytes)} (all resident)</span> · predicted peak "
        f"{format_bytes(plan.predicted.peak_bytes)}, all of them in "
        f"<b>{format_ms(plan.predicted.cold_ms)}</b>{stays}"
    )


def queue_outcome(outcome: QueueOutcome) -> str:
    """When each model ran, and the whole beside the same models one after another."""
    lines = [
        (
            f"{at}. {one.model}",
            f"{format_ms(one.start_ms)} to {format_ms(one.end_ms)}",
            "" if one.check is None else ("ok" if one.check.ok else "WRONG"),
        )
        for at, one in enumerate(outcome.places, 1)
    ]
    places = _table(("model", "runs from", "onnxruntime"), lines)
    joint = outcome.result.first_run_ms
    ways = [("together", joint, outcome.result.peak_bytes["total"])]
    ways += [(f"one after another, {a.strategy}", a.total_ms, a.peak_bytes) for a in outcome.alone]
    beside = _table(
        ("way", "all of them in", "peak", "time beside together"),
        [
            (name, format_ms(took), format_bytes(peak), f"{took / joint:.2f} times")
            for name, took, peak in ways
        ],
    )
    return _block(f"<div class='beside'>{places}{beside}</div>")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table class='comparison'><tr>{head}</tr>{body}</table>"


def warning(text: str) -> str:
    """What is wrong with what was asked, where it was asked."""
    return _block(f"<div class='error' role='alert'>{escape(text)}</div>")


def failure(error: BaseException, hint: str = "") -> str:
    """An error where it happened, with what to do next: `hint`, or what the error says itself."""
    if not isinstance(error, FlashMemError):
        return _block(
            f"<div class='error' role='alert'>{type(error).__name__}: {escape(str(error))}</div>"
        )
    advice = hint or _hint(error)
    soft = f"<br><span class='soft'>{escape(advice)}</span>" if advice else ""
    return _block(f"<div class='error' role='alert'>{escape(error.message)}{soft}</div>")


def advice(error: FlashMemError) -> str:
    """The same in plain text, for a place that makes its own HTML."""
    return ". ".join(piece for piece in (error.message, _hint(error)) if piece)


def plain(error: BaseException) -> str:
    """Any error in plain text."""
    return advice(error) if isinstance(error, FlashMemError) else f"{type(error).__name__}: {error}"


def _hint(error: FlashMemError) -> str:
    """What to do next, in the words of the workbench and not of the command line."""
    if isinstance(error, BudgetTooSmall):
        edits = " or undo edits of the schedule" if error.relaxations else ""
        return f"move the budget to {format_bytes(error.needed)} or more{edits}"
    return error.hint


def live(words: str, curve: str) -> str:
    """What a run holds now; `words` and `curve` are HTML already."""
    return _block(f"<div class='live'>{curve}<span>{words}</span></div>")


def opening(name: str) -> str:
    """A model is opened in the background."""
    return _block(
        f"<div class='soft' role='status'>Opening <b>{escape(name)}</b>: reading the graph, "
        "choosing kernels and looking for devices. Other cells run meanwhile.</div>"
    )


def note(text: str) -> str:
    """A word on what is going on."""
    return _block(f"<span class='soft'>{escape(text)}</span>")


def _check(row: RunRow) -> str:
    kind = "ok" if row.check.startswith("ok") else "bad"
    return f"<span class='{kind}'>{escape(row.check)}</span>" if row.check else ""


def _block(body: str) -> str:
    return f"<div class='fml'>{body}</div>"
