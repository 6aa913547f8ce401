"""Cold starts: from the start of a process to its first output, from a bundle and in onnxruntime.

Each contestant is a fresh Python process that loads the same inputs from a file, runs once and
says so; sessions, imports and interpreters count. Files are in the page cache, kernels are
compiled when the bundle is made. Processes take turns, the best of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser
from flashmem_lab.bench.runs import run_json, zoo_model
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.errors import FlashMemError
from flashmem_lab.units import format_bytes

MODELS = ("vit", "gptneo-small", "gptneo-1.3b")
_SAY = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rss_bytes": int(peak.split()[1]) * 1024, "parts_ms": parts}), flush=True)
"""
_OURS = f"""
import json, sys
from pathlib import Path
from time import perf_counter
began = perf_counter()
import numpy as np
from flashmem_lab import workflow
inputs = dict(np.load(sys.argv[3]))
outcome = workflow.run_bundle(Path(sys.argv[1]), workflow.open_device(sys.argv[2]), inputs)
assert outcome.result.outputs
parts = {{"whole": (perf_counter() - began) * 1e3, **outcome.stages_ms}}
{_SAY}"""
_PEER = f"""
import json, sys
from time import perf_counter
began = perf_counter()
import numpy as np
import onnxruntime
imported = perf_counter()
inputs = dict(np.load(sys.argv[3]))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
options.log_severity_level = 4
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
opened = perf_counter()
assert session.run(None, inputs)
ended = perf_counter()
parts = {{
    "import": (imported - began) * 1e3,
    "session": (opened - imported) * 1e3,
    "first_run": (ended - opened) * 1e3,
}}
{_SAY}"""


@dataclass(frozen=True, slots=True)
class Start:
    """The best cold start of a contestant.

    Attributes:
        ms: from the start of the process to its first output.
        rss_bytes: largest resident set until then, of the fastest start.
        parts_ms: what the process says of its own time.
    """

    ms: float
    rss_bytes: int
    parts_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One model: budget and peak of the bundle, then both contestants."""

    model: str
    budget_bytes: int
    ours: Start
    peer: Start

    @property
    def ratio(self) -> float:
        """Time here over onnxruntime's: below 1 is faster."""
        return self.ours.ms / self.peer.ms

    @property
    def rss_ratio(self) -> float:
        """Resident set here over onnxruntime's."""
        return self.ours.rss_bytes / self.peer.rss_bytes


COLUMNS = (
    "Model",
    "Budget",
    "Cold",
    "onnxruntime",
    "Ratio",
    "RSS",
    "onnxruntime",
    "Ratio",
    "Parts",
)


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("cold", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument("--budget", default="30%", help="of the bundles; 30%%")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each contestant; 5")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of onnxruntime; all cores"
    )
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        raise FlashMemError("resident sets are read from /proc", hint="run the bench on Linux")
    facts = machine(("pyopencl", "numpy", "onnxruntime"))
    facts["threads"] = str(options.threads)
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, cache):
            rows.append(_measure(name, path, cache, options))
    if options.json:
        listed = [asdict(r) | {"ratio": r.ratio, "rss_ratio": r.rss_ratio} for r in rows]
        print_json({"schema": "flashmem-lab/bench-cold/1", "machine": facts, "models": listed})
    else:
        print_table([_cells(row) for row in rows], columns=COLUMNS)
        print(sentence(facts))
    return 0


def _cells(row: Row) -> list[str]:
    return [
        row.model,
        format_bytes(row.budget_bytes),
        f"{row.ours.ms:.0f} ms",
        f"{row.peer.ms:.0f} ms",
        f"{row.ratio:.2f}",
        format_bytes(row.ours.rss_bytes),
        format_bytes(row.peer.rss_bytes),
        f"{row.rss_ratio:.2f}",
        ", ".join(f"{name} {ms:.0f}" for name, ms in row.ours.parts_ms.items()),
    ]


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    device: str = options.device
    if device == "auto":
        from flashmem_lab.devices import open_device

        device = open_device().id
    cache.mkdir(parents=True, exist_ok=True)
    plan, bundle, inputs = (cache / f"{name}.{end}" for end in ("plan.json", "fmb", "npz"))
    asked = ("--device", device, "--budget", options.budget, "--precision", options.precision)
    run_json(cache, "plan", str(path), *asked, "-o", str(plan))
    made = run_json(cache, "bundle", str(path), "--plan", str(plan), "-o", str(bundle))
    _save_inputs(bundle, inputs)
    ours: list[str] = [_OURS, str(bundle), device, str(inputs)]
    peer = [_PEER, str(path), str(options.threads), str(inputs)]
    starts = [(_start(ours, cache), _start(peer, cache)) for _ in range(options.rounds + 1)]
    counted = list(zip(*starts[1:], strict=True))  # the first brings the files into the cache
    best = [min(turns, key=lambda start: start.ms) for turns in counted]
    return Row(name, int(made["budget_bytes"]), *best)


def _save_inputs(bundle: Path, to: Path) -> None:
    import numpy as np

    from flashmem_lab.program import read_bundle
    from flashmem_lab.samples import sample_inputs

    program, _ = read_bundle(bundle)
    arrays: dict[str, Any] = sample_inputs(program)
    np.savez(to, **arrays)


def _start(command: Sequence[str], cache: Path) -> Start:
    """Starts a process and waits for its first output.

    Raises:
        FlashMemError: it failed; with the end of what it wrote.
    """
    environment = {**os.environ, "FLASHMEM_LAB_CACHE": str(cache)}
    began = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        line = process.stdout.readline()
        ms = (perf_counter() - began) * 1e3
        _, errors = process.communicate()
    if process.returncode or not line:
        raise FlashMemError(f"a contestant failed: {errors.strip()[-500:]}")
    said = json.loads(line)
    return Start(ms, said["rss_bytes"], said["parts_ms"])
