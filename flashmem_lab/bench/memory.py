"""What models hold on the device: least, at three budgets, and preloaded, beside the paper's.

Each figure is of a run of its own: `flashmem-lab run` in a child process, on a model of the zoo
made for it, with the ledger's peak and the time average of the first run. The paper's averages are
of an Adreno 750; what a model holds depends on its plan and layers, and for the average on how
fast the device computes beside its disk, so only peaks compare between machines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser, budget
from flashmem_lab.bench.paper import MEASURED
from flashmem_lab.bench.runs import run_json, zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.trace.write import write_file

BUDGETS = ("10%", "30%", "60%")


@dataclass(frozen=True, slots=True)
class AtBudget:
    """One run.

    Attributes:
        budget: as it was asked for.
        budget_bytes: what that is.
        peak_bytes, average_bytes: most held at once, and the mean over the time of the first run.
        first_run_ms: from nothing on the device to the output.
        rel_l2: relative L2 error against onnxruntime, or None if that was not asked for.
    """

    budget: str
    budget_bytes: int
    peak_bytes: int
    average_bytes: int
    first_run_ms: float
    rel_l2: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: name in the zoo.
        weight_bytes: of all weights on the device, in the precision asked for.
        preload_peak_bytes, least_bytes: what full preload holds, and the least feasible budget.
        runs: one for each budget.
        preload: the run with everything loaded before the first layer.
        paper_average_mb: FlashMem's average on its phone, MB, or None.
    """

    model: str
    weight_bytes: int
    preload_peak_bytes: int
    least_bytes: int
    runs: tuple[AtBudget, ...]
    preload: AtBudget
    paper_average_mb: float | None


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON, or writes Markdown."""
    options = _options(arguments)
    facts = machine(("pyopencl", "numpy", *(("onnxruntime",) if options.check else ())))
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, cache):
            row = _measure(name, path, cache, options)
        rows.append(row)
        print(f"{name}: done", file=sys.stderr, flush=True)
    if options.markdown is not None:
        write_file(options.markdown, _markdown(rows, facts, options), "writing the table")
    if options.json:
        data: dict[str, Any] = {"schema": "flashmem-lab/bench-memory/1", "machine": facts}
        data |= {"precision": options.precision, "models": [asdict(row) for row in rows]}
        print_json(data)
    elif options.markdown is None:
        print_table(_cells(rows), columns=_columns(options.budgets))
        print(sentence(facts))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = bench_parser("memory", __doc__)
    add_models(parser, tuple(MEASURED))
    add_precision(parser, "fp16")
    parser.add_argument("--budgets", type=budget, nargs="+", default=BUDGETS, metavar="BUDGET")
    parser.add_argument(
        "--passes", type=values.count, default=2, help="of all runs; the quickest counts; 2"
    )
    parser.add_argument("--check", action="store_true", help="compare every run with onnxruntime")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args(arguments)


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    given = ["--device", options.device, "--precision", options.precision]
    given += ["--check"] if options.check else []
    run = ["run", str(path), *given, "--budget"]
    wanted = [*([at] for at in options.budgets), ["100%", "--strategy", "preload"]]
    passes = [[run_json(cache, *run, *one) for one in wanted] for _ in range(options.passes)]
    # In turns, and the quickest of each counts: what disturbs a run makes it longer.
    *runs, whole = (
        min(ran, key=lambda one: one["first_run_ms"]) for ran in zip(*passes, strict=True)
    )
    paper = MEASURED.get(name)
    return Row(
        model=name,
        weight_bytes=whole["weight_bytes"],
        preload_peak_bytes=whole["preload_peak_bytes"],
        least_bytes=whole["min_budget_bytes"],
        runs=tuple(map(_at_budget, options.budgets, runs)),
        preload=_at_budget("100%", whole),
        paper_average_mb=paper.average_mb if paper else None,
    )


def _at_budget(budget: str, ran: dict[str, Any]) -> AtBudget:
    return AtBudget(
        budget=budget,
        budget_bytes=ran["budget_bytes"],
        peak_bytes=ran["peak_bytes"]["total"],
        average_bytes=ran["average_bytes"],
        first_run_ms=ran["first_run_ms"],
        rel_l2=ran["check"]["rel_l2"] if ran["check"] else None,
    )


# --- what people see -----------------------------------------------------------------------


def _columns(budgets: Sequence[str]) -> list[str]:
    return [
        "model",
        "weights",
        "preload",
        "least",
        *(f"{budget}: peak, average" for budget in budgets),
        "paper, average",
        *(f"{budget} first run / preload's" for budget in budgets),
        "preload first run",
    ]


def _cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        yield [
            row.model,
            _mb(row.weight_bytes),
            _mb(row.preload_peak_bytes),
            _mb(row.least_bytes),
            *(f"{_mb(run.peak_bytes)}, {_mb(run.average_bytes)}" for run in row.runs),
            "" if row.paper_average_mb is None else f"{row.paper_average_mb:g}",
            *(f"{run.first_run_ms / row.preload.first_run_ms:.2f}" for run in row.runs),
            f"{row.preload.first_run_ms / 1e3:.1f} s",
        ]


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _markdown(rows: Sequence[Row], facts: dict[str, str], options: argparse.Namespace) -> str:
    columns = _columns(options.budgets)
    lines = [
        "# Memory on the device",
        "",
        f"Made by `flashmem-lab bench memory --precision {options.precision}`. Sizes in MB (10^6",
        "bytes). A percentage is a budget between the least feasible one and full preload. Peaks",
        "are those of the runtime's ledger of every image and buffer, weights, activations and",
        "staging together; averages are over the time of the first run, as in the paper. The last",
        "columns compare the time of that run, from nothing on the device to the output, with the",
        "same run when every weight is loaded before the first layer.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in _cells(rows)),
        "",
        f"Measured on {sentence(facts)}.",
    ]
    worst = [run.rel_l2 for row in rows for run in (*row.runs, row.preload) if run.rel_l2]
    if worst:
        lines += ["", f"All outputs within {max(worst):.1g} of onnxruntime (relative L2 error)."]
    return "\n".join(lines) + "\n"
