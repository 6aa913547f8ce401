"""From the start of a process to the first output: a bundle beside an onnxruntime session.

The bundle is made before. Then both run in turns, each in a process of its own with the same
inputs: `flashmem-lab run BUNDLE --json` to its exit, and a script that creates a session and runs
it once, to that run's end. A turn of each goes by uncounted, so files are in the page cache (as far
as memory goes) and drivers have what they keep on disk, for both. The best turn of each counts.
Host memory is the largest resident set, as the system reports it when the process ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser, budget
from flashmem_lab.bench.runs import run_json, zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.errors import FlashMemError
from flashmem_lab.program import read_bundle
from flashmem_lab.samples import sample_inputs

MODELS = ("resnet50", "vit", "gptneo-small", "gptneo-1.3b")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; ru_maxrss counts in these
_PEER = Path(__file__).parents[1] / "graph" / "first_run.py"


@dataclass(frozen=True, slots=True)
class Start:
    """One process: how long it took, ms, its largest resident set, bytes, and what it printed."""

    took_ms: float
    rss_bytes: int
    said: str


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: name in the zoo.
        budget_bytes: of the bundle.
        bundle_ms, peer_ms: best process of each.
        stages_ms: what the best process says of itself; Python's start and imports are the rest.
        kernels_compiled: in all of the turns that count; 0 if kernels were kept.
        bundle_rss_bytes, peer_rss_bytes: largest resident set of all turns.
    """

    model: str
    budget_bytes: int
    bundle_ms: float
    peer_ms: float
    stages_ms: dict[str, float]
    kernels_compiled: int
    bundle_rss_bytes: int
    peer_rss_bytes: int

    @property
    def time_ratio(self) -> float:
        """Time here over onnxruntime's: below 1 is faster."""
        return self.bundle_ms / self.peer_ms

    @property
    def rss_ratio(self) -> float:
        """Host memory here over onnxruntime's: below 1 is smaller."""
        return self.bundle_rss_bytes / self.peer_rss_bytes


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("cold", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument("--budget", type=budget, default="30%", help="of the bundle; 30%%")
    parser.add_argument(
        "--rounds", type=values.count, default=3, help="turns of each that count; 3"
    )
    parser.add_argument("--threads", type=values.count, default=2, help="of onnxruntime; 2")
    options = parser.parse_args(arguments)
    facts = machine(("pyopencl", "numpy", "onnxruntime"))
    facts |= {"threads": str(options.threads), "load": f"{os.getloadavg()[0]:.1f}"}
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, cache):
            rows.append(_measure(name, path, cache, options))
        print(f"{name}: done", file=sys.stderr, flush=True)
    if options.json:
        listed = [
            asdict(row) | {"time_ratio": row.time_ratio, "rss_ratio": row.rss_ratio} for row in rows
        ]
        print_json(
            {
                "schema": "flashmem-lab/bench-cold/1",
                "machine": facts,
                "precision": options.precision,
                "budget": options.budget,
                "models": listed,
            }
        )
    else:
        print_table([_cells(row) for row in rows], columns=COLUMNS)
        print(f"{options.precision}, budget {options.budget}. {sentence(facts)}")
    return 0


COLUMNS = (
    "Model",
    "Budget",
    "Bundle",
    "onnxruntime",
    "Ratio",
    "Host memory",
    "onnxruntime's",
    "Ratio",
)


def _cells(row: Row) -> list[str]:
    return [
        row.model,
        f"{row.budget_bytes / 1e6:.0f} MB",
        f"{row.bundle_ms:.0f} ms",
        f"{row.peer_ms:.0f} ms",
        f"{row.time_ratio:.2f}",
        f"{row.bundle_rss_bytes / 1e6:.0f} MB",
        f"{row.peer_rss_bytes / 1e6:.0f} MB",
        f"{row.rss_ratio:.2f}",
    ]


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder:
        bundle = Path(folder) / f"{name}.fmb"
        planned = ["--device", options.device, "--precision", options.precision]
        made = run_json(
            cache, "bundle", str(path), *planned, "--budget", options.budget, "-o", str(bundle)
        )
        inputs = _save_inputs(bundle, Path(folder))
        ours = [sys.executable, "-m", "flashmem_lab", "run", str(bundle), "--json"]
        ours += ["--device", made["device"]]
        ours += [part for given in inputs for part in ("--input", given)]
        # -P: its folder must not come before the standard library.
        peer = [sys.executable, "-P", str(_PEER), str(path), str(options.threads), *inputs]
        turns = [(start(ours, cache), start(peer, cache)) for _ in range(options.rounds + 1)]
    bundles, peers = zip(*turns[1:], strict=True)
    best = min(bundles, key=lambda one: one.took_ms)
    said = [json.loads(one.said) for one in bundles]
    return Row(
        model=name,
        budget_bytes=made["budget_bytes"],
        bundle_ms=best.took_ms,
        peer_ms=min(one.took_ms for one in peers),
        stages_ms=json.loads(best.said)["stages_ms"],
        kernels_compiled=sum(one["kernels_compiled"] for one in said),
        bundle_rss_bytes=max(one.rss_bytes for one in bundles),
        peer_rss_bytes=max(one.rss_bytes for one in peers),
    )


def _save_inputs(bundle: Path, folder: Path) -> list[str]:
    """Inputs of the model as files, each as NAME=FILE."""
    program, _ = read_bundle(bundle)
    given = []
    for at, (name, array) in enumerate(sample_inputs(program).items()):
        file = folder / f"input{at}.npy"
        np.save(file, array)
        given.append(f"{name}={file}")
    return given


def start(command: Sequence[str], cache: Path) -> Start:
    """Runs a process to its end.

    A process inherits its parent's resident set until it has become another program, and the
    system counts that too: no figure is below what this process holds.

    Args:
        command: what to run.
        cache: where packed weights and compiled kernels are kept.

    Raises:
        FlashMemError: it failed; with the end of what it wrote.
    """
    environment = {**os.environ, "FLASHMEM_LAB_CACHE": str(cache)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = perf_counter_ns()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        took_ms = (perf_counter_ns() - began) / 1e6
        process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            raise FlashMemError(f"{' '.join(command)}: {errors.read().strip()[-500:]}")
        return Start(took_ms, usage.ru_maxrss * _RSS_UNIT, out.read())
