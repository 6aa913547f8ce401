"""How well plans are predicted: the device is profiled, then models run and are compared.

The profile knows sample kernels, none of these models. Machines that others use too are fast at one
minute and slow at the next, so each session makes a profile anew and runs the model at all budgets
right after it, each in a process of its own; the median session counts. The first run is compared
with the predicted cold one, the median of the others with the predicted warm one, and the peak with
the peak.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, bench_parser, budget
from flashmem_lab.bench.runs import run_json, zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table

MODELS = (
    "resnet50", "vit", "gptneo-small", "depth-anything-small", "mobilenetv2", "swin-tiny",
)  # fmt: skip
BUDGETS = ("10%", "30%", "100%")


@dataclass(frozen=True, slots=True)
class Compared:
    """One model at one budget; ratios are predicted over measured."""

    model: str
    budget: str
    peak: float
    cold: float
    warm: float
    measured_cold_ms: float
    measured_warm_ms: float


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    options = _options(arguments)
    facts = machine(("pyopencl", "numpy"))
    rows = []
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as scratch:
        for name in options.models:
            with zoo_model(name, options.folder) as (path, cache):
                cache.mkdir()
                sessions = []
                for _ in range(options.sessions):
                    shutil.copy(_profile(Path(scratch), options.device), cache)
                    sessions.append(
                        [_compare(name, path, cache, at, options) for at in options.budgets]
                    )
            rows += [_middle(alike) for alike in zip(*sessions, strict=True)]
            print(f"{name}: done", file=sys.stderr, flush=True)
    spread = {
        name: _spread([getattr(row, name) for row in rows]) for name in ("peak", "cold", "warm")
    }
    if options.json:
        data = {"schema": "flashmem-lab/bench-prediction/1", "machine": facts}
        print_json({**data, "runs": [asdict(row) for row in rows], "error": spread})
        return 0
    print_table(
        (
            (
                row.model,
                row.budget,
                f"{row.peak:.4f}",
                f"{row.cold:.2f}",
                f"{row.warm:.2f}",
                f"{row.measured_cold_ms:.0f} ms",
                f"{row.measured_warm_ms:.0f} ms",
            )
            for row in rows
        ),
        columns=(
            "model", "budget", "peak, predicted / measured", "cold", "warm",
            "measured cold", "measured warm",
        ),
    )  # fmt: skip
    for name, (middle, most) in spread.items():
        print(f"{name}: median error {middle:.1%}, largest {most:.1%}")
    print(sentence(facts))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = bench_parser("prediction", __doc__)
    add_models(parser, MODELS)
    parser.add_argument("--budgets", type=budget, nargs="+", default=BUDGETS, metavar="BUDGET")
    parser.add_argument(
        "--sessions", type=values.count, default=3, help="profiles for each model; 3"
    )
    parser.add_argument(
        "--repeat", type=_repeat, default=6, help="runs of each, the first one cold; 6"
    )
    return parser.parse_args(arguments)


def _repeat(text: str) -> int:
    runs = values.count(text)
    if runs < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r}: the first run is cold, and later ones count too"
        )
    return runs


def _profile(scratch: Path, device: str) -> Path:
    """Measures the device; the file as a cache folder holds it."""
    run_json(scratch, "profile", *([] if device == "auto" else ["--device", device]))
    return next(scratch.glob("device-*.json"))


def _compare(
    name: str, path: Path, cache: Path, budget: str, options: argparse.Namespace
) -> Compared:
    given = ["--device", options.device, "--budget", budget, "--repeat", str(options.repeat)]
    ran = run_json(cache, "run", str(path), *given)
    warm, told = median(ran["warm_ms"]), ran["predicted"]
    return Compared(
        model=name,
        budget=budget,
        peak=told["peak_bytes"] / ran["peak_bytes"]["total"],
        cold=told["cold_ms"] / ran["first_run_ms"],
        warm=told["warm_ms"] / warm,
        measured_cold_ms=ran["first_run_ms"],
        measured_warm_ms=warm,
    )


def _middle(sessions: Sequence[Compared]) -> Compared:
    """The median of each figure; of the peaks the one that is furthest off."""
    return Compared(
        model=sessions[0].model,
        budget=sessions[0].budget,
        peak=max((one.peak for one in sessions), key=lambda peak: abs(peak - 1)),
        cold=median(one.cold for one in sessions),
        warm=median(one.warm for one in sessions),
        measured_cold_ms=median(one.measured_cold_ms for one in sessions),
        measured_warm_ms=median(one.measured_warm_ms for one in sessions),
    )


def _spread(ratios: Sequence[float]) -> tuple[float, float]:
    """Median and largest error."""
    errors = [abs(ratio - 1) for ratio in ratios]
    return median(errors), max(errors)
