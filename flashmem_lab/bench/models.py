"""Whole models, warm and with every weight on the device, beside onnxruntime on the same machine.

Both run in this process, in turns, on the same inputs; the best warm run of each counts, so that
what else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from flashmem_lab import workflow
from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser
from flashmem_lab.bench.runs import zoo_model
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.cli.parser import STORAGES
from flashmem_lab.devices import open_device
from flashmem_lab.graph.peer import Peer
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget

MODELS = ("resnet50", "vit", "gptneo-small", "depth-anything-small")
PASSES = 4  # warm runs of each contestant in its turn


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: name in the zoo.
        storage: of the weights.
        layers: launches of a run, about.
        warm_ms, peer_ms: best warm run here, and of onnxruntime.
        rel_l2: relative L2 error against onnxruntime.
    """

    model: str
    storage: str
    layers: int
    warm_ms: float
    peer_ms: float
    rel_l2: float

    @property
    def ratio(self) -> float:
        """Time here over onnxruntime's: below 1 is faster."""
        return self.warm_ms / self.peer_ms


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("models", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument(
        "--storage", choices=STORAGES, default="auto", help="of the weights; as `run`"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant; 3")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of onnxruntime; all cores"
    )
    options = parser.parse_args(arguments)
    facts = machine(("pyopencl", "numpy", "onnxruntime"))
    facts["threads"] = str(options.threads)
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, packed):
            rows.append(_measure(name, path, packed, options))
    if options.json:
        listed = [asdict(row) | {"ratio": row.ratio} for row in rows]
        print_json({"schema": "flashmem-lab/bench-models/1", "machine": facts, "models": listed})
    else:
        print_table([_cells(row) for row in rows], columns=COLUMNS)
        print(sentence(facts))
    return 0


COLUMNS = ("Model", "Storage", "Layers", "Warm", "onnxruntime", "Ratio", "Error")


def _cells(row: Row) -> list[str]:
    times = (f"{ms:.0f} ms" for ms in (row.warm_ms, row.peer_ms))
    error = f"{row.rel_l2:.0e}"
    return [row.model, row.storage, str(row.layers), *times, f"{row.ratio:.2f}", error]


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    spec = open_device(options.device)
    storage = None if options.storage == "auto" else Storage(options.storage)
    precision = Precision(options.precision)
    prepared = workflow.load(path, device=spec, precision=precision, storage=storage)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=cache)
    inputs = sample_inputs(made.program)
    peer = Peer(path, threads=options.threads)
    peer.run_ms(inputs)  # its first run allocates
    warm_ms = peer_ms = float("inf")
    with closing(workflow.open_runtime(spec)) as runtime:
        for _ in range(options.rounds):
            peer_ms = min(peer_ms, *(peer.run_ms(inputs) for _ in range(PASSES)))
            result = runtime.run(made.program, made.packed.path, inputs, repeat=PASSES + 1)
            warm_ms = min(warm_ms, *result.warm_ms)
    error = workflow.checked(prepared, inputs, result.outputs).rel_l2
    held = {w.storage for w in prepared.model.weights.values()}
    kept = Storage.IMAGE2D if Storage.IMAGE2D in held else Storage.BUFFER
    return Row(name, kept.value, len(made.program.layers), warm_ms, peer_ms, error)
