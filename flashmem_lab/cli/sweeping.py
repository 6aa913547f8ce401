"""The `sweep` command: models, budgets and devices in one table, planned and not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab import workflow
from flashmem_lab.cli.common import Asked, Lowering, asked, lowering
from flashmem_lab.cli.console import print_json, print_table, progress_bars
from flashmem_lab.cli.parser import Options
from flashmem_lab.errors import FlashMemError
from flashmem_lab.units import Budget, format_bytes, format_ms

if TYPE_CHECKING:
    from distributed import Client

    from flashmem_lab.device import DeviceSpec

Row = dict[str, Any]

_ANSWER_S = 10
"""A scheduler that has not answered by then, or has no worker, is taken to be gone."""


def sweep(options: Options) -> int:
    """Plans each model on each device within each budget."""
    devices = [workflow.open_device(name) for name in options.devices]
    jobs = [
        Job(
            path=path.resolve(),
            device=device,
            budgets=tuple(options.budgets),
            dims=tuple(options.dim),
            shapes=tuple(options.shape),
            lowering=lowering(options),
            asked=asked(options),
        )
        for path in options.models
        for device in devices
    ]
    found: list[list[Row]] = [[] for _ in jobs]
    with progress_bars() as tell:
        if options.dask is None:
            done: Iterator[tuple[int, list[Row]]] = (
                (at, job.rows()) for at, job in enumerate(jobs)
            )
            count = len(jobs)
        else:
            done = _on_workers(jobs, options.dask)
            count = len(jobs) * len(options.budgets)
        tell("sweep", 0, count)
        for number, (at, rows) in enumerate(done, start=1):
            found[at] += rows
            tell("sweep", number, count)
    points = [row for rows in found for row in _compared(rows)]
    if options.json:
        print_json({"schema": "flashmem-lab/sweep/1", "points": points})
        return 0
    print_table(
        (
            (
                row["model"],
                row["device"],
                format_bytes(row["budget_bytes"]),
                *_results(row),
            )
            for row in points
        ),
        columns=(
            "model", "device", "budget", "peak", "average", "cold run", "warm run", "gap", "",
        ),
    )  # fmt: skip
    return 0


def _results(row: Row) -> tuple[str, ...]:
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


def _compared(rows: list[Row]) -> list[Row]:
    """One model's rows on one device, each budget once, and which plans no other one beats."""
    from flashmem_lab.plan import efficient

    once = {row["budget_bytes"]: row for row in rows}
    small = [once[cap] for cap in sorted(once) if "needed_bytes" in once[cap]]
    plans = [once[cap] for cap in sorted(once) if "needed_bytes" not in once[cap]]
    places = [
        tuple(plan["predicted"][what] for what in ("peak_bytes", "cold_ms", "warm_ms"))
        for plan in plans
    ]
    best = efficient(places)
    return small + [{**plan, "efficient": on} for plan, on in zip(plans, best, strict=True)]


@dataclass(frozen=True, slots=True)
class Job:
    """One model on one device within some budgets; plain enough to be sent to another process."""

    path: Path
    device: DeviceSpec
    budgets: tuple[Budget, ...]
    dims: tuple[tuple[str, int], ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    lowering: Lowering
    asked: Asked

    def rows(self) -> list[Row]:
        """Its points, and the budgets that are too small for it."""
        from flashmem_lab.plan import check_plan
        from flashmem_lab.plan.pareto import pareto

        prepared = workflow.load(
            self.path,
            device=self.device,
            dims=dict(self.dims),
            shapes=dict(self.shapes),
            **self.lowering._asdict(),
        )
        model = prepared.model
        curve = pareto(model, self.device, self.budgets, **self.asked._asdict())
        rows: list[Row] = [
            {
                "model": model.name,
                "device": self.device.id,
                "budget_bytes": cap,
                "needed_bytes": curve.least_bytes,
            }
            for cap in curve.too_small
        ]
        for point in curve.points:
            check_plan(point.plan, model, self.device)
            document = workflow.plan_document(point.plan, model)
            for long in ("streamed", "preloaded", "over_capacity"):
                del document[long]
            rows.append(document)
        return rows


# --- on other machines ---------------------------------------------------------------------


def _on_workers(jobs: list[Job], address: str) -> Iterator[tuple[int, list[Row]]]:
    """(position of the job, rows) of each of its budgets, a future each, as they are done."""
    with _client(address) as client:
        from distributed import as_completed

        points = {
            client.submit(_point, replace(job, budgets=(budget,)), pure=False): at
            for at, job in enumerate(jobs)
            for budget in job.budgets
        }
        for future in as_completed(list(points), loop=client.loop):
            rows, error, hint = future.result()
            if error:
                raise FlashMemError(error, hint=hint)
            yield points[future], rows


def _point(job: Job) -> tuple[list[Row], str, str]:
    """(rows, error, hint): errors travel as text, for not all of them can be pickled."""
    try:
        return job.rows(), "", ""
    except FlashMemError as error:
        return [], error.message, error.hint


@contextmanager
def _client(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address`.

    Raises:
        FlashMemError: dask.distributed is not installed, or nothing answers there.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise FlashMemError(
            "--dask needs the Python package dask.distributed, which is not installed",
            hint="pip install 'flashmem-lab[dask]', here and on the workers",
        ) from None
    hint = "start one with `dask scheduler` and `dask worker ADDRESS`; it prints its address"
    try:
        client = Client(address, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FlashMemError(f"no dask scheduler answers at {address}: {error}", hint=hint) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_ANSWER_S)
        except TimeoutError:
            raise FlashMemError(
                f"the dask scheduler at {address} has no worker", hint=hint
            ) from None
        yield client
