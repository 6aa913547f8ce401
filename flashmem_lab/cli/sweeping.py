"""The `sweep` command: models, budgets and devices in one table, planned and not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab import workflow
from flashmem_lab.cli.common import asked, opened
from flashmem_lab.cli.console import print_json, print_table, progress_bars
from flashmem_lab.cli.parser import Options
from flashmem_lab.units import Budget, format_bytes, format_ms

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec


def sweep(options: Options) -> int:
    """Plans each model on each device within each budget."""
    devices = [workflow.open_device(name) for name in options.devices]
    jobs = [(path, device) for path in options.models for device in devices]
    rows: list[dict[str, Any]] = []
    with progress_bars() as tell:
        for done, (path, device) in enumerate(jobs):
            tell("sweep", done, len(jobs))
            rows += _curve(path, device, options)
        tell("sweep", len(jobs), len(jobs))
    if options.json:
        print_json({"schema": "flashmem-lab/sweep/1", "points": rows})
        return 0
    print_table(
        (
            (
                row["model"],
                row["device"],
                format_bytes(row["budget_bytes"]),
                *_results(row),
            )
            for row in rows
        ),
        columns=(
            "model", "device", "budget", "peak", "average", "cold run", "warm run", "gap", "",
        ),
    )  # fmt: skip
    return 0


def _results(row: dict[str, Any]) -> tuple[str, ...]:
    if "needed_bytes" in row:
        return (f"needs {format_bytes(row['needed_bytes'])}", "", "", "", "", "")
    expected = row["predicted"]
    return (
        format_bytes(expected["peak_bytes"]),
        format_bytes(expected["average_bytes"]),
        format_ms(expected["cold_ms"]),
        format_ms(expected["warm_ms"]),
        f"{row['gap']:.1%}",
        "" if row["efficient"] else "another is better",
    )


def _curve(path: Path, device: DeviceSpec, options: Options) -> list[dict[str, Any]]:
    """The points of one model on one device, and the budgets that are too small for it."""
    from flashmem_lab.plan import bounds, check_plan
    from flashmem_lab.plan.pareto import pareto

    prepared = opened(options, path, device, dims=dict(options.dim), shapes=dict(options.shape))
    how = asked(options)
    least, full, _ = bounds(prepared.model, device, how.transport, constraints=how.constraints)
    caps = [budget.resolve(least, full) for budget in options.budgets]
    rows: list[dict[str, Any]] = [
        {
            "model": prepared.model.name,
            "device": device.id,
            "budget_bytes": cap,
            "needed_bytes": least,
        }
        for cap in sorted(set(caps))
        if cap < least
    ]
    points = pareto(
        prepared.model,
        device,
        [Budget(bytes=cap) for cap in caps if cap >= least],
        **how._asdict(),
    )
    for point in points:
        check_plan(point.plan, prepared.model, device)
        document = workflow.plan_document(point.plan, prepared.model)
        for long in ("streamed", "preloaded", "over_capacity"):
            del document[long]
        rows.append({**document, "efficient": point.efficient})
    return rows
