"""Several models under one cap: the joint plan beside running them one after another.

Four models in random order, ten rounds, under a cap below what the largest of them preloads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser, budget
from flashmem_lab.bench.runs import run_json, zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.units import format_bytes, format_ms

MODELS = ("depth-anything-small", "vit", "gptneo-small", "resnet50")
BUDGETS = ("150MB", "300MB", "500MB")


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    options = _options(arguments)
    facts = machine(("pyopencl", "numpy"))
    with ExitStack() as stack:
        made = [stack.enter_context(zoo_model(name, options.folder)) for name in options.models]
        rows = [_run([path for path, _ in made], made[0][1], at, options) for at in options.budgets]
    if options.json:
        data = {"schema": "flashmem-lab/bench-queue/1", "machine": facts}
        print_json({**data, "models": list(options.models), "queues": rows})
        return 0
    print_table(
        (
            (
                budget,
                format_bytes(row["peak_bytes"]["total"]),
                format_bytes(row["kept_bytes"]),
                format_ms(row["total_ms"]),
                *(
                    f"{one['total_ms'] / row['total_ms']:.2f} x, {format_bytes(one['peak_bytes'])}"
                    for one in row["one_after_another"]
                ),
                f"{row['predicted']['total_ms'] / row['total_ms']:.2f}",
            )
            for budget, row in zip(options.budgets, rows, strict=True)
        ),
        columns=(
            "cap", "peak", "kept", "queue", "one by one, preloaded or always-next",
            "one by one, greedy", "predicted / measured",
        ),
        title=f"{len(rows[0]['models'])} runs of {', '.join(options.models)}",
    )  # fmt: skip
    print(sentence(facts))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = bench_parser("queue", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument("--budgets", type=budget, nargs="+", default=BUDGETS, metavar="BUDGET")
    parser.add_argument("--rounds", type=values.count, default=10, help="the whole queue; 10")
    parser.add_argument("--seed", type=values.seed, default=0, help="of the order in each round")
    return parser.parse_args(arguments)


def _run(
    paths: Sequence[Path], cache: Path, budget: str, options: argparse.Namespace
) -> dict[str, Any]:
    given = ["--rounds", str(options.rounds), "--shuffle", "--seed", str(options.seed)]
    given += ["--device", options.device, "--precision", options.precision, "--compare"]
    row = run_json(cache, "queue", *map(str, paths), "--budget", budget, *given)
    print(f"{budget}: done", file=sys.stderr, flush=True)
    return row
