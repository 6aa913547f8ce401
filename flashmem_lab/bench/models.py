"""Whole models, warm and with every weight on the device, beside a peer on the same machine.

The peer is onnxruntime on the processor; beside a GPU, where PyTorch with CUDA and the model's own
library are installed, PyTorch's eager mode in fp32 and with TF32. All run in this process, taking
turns on the same inputs; the best warm run of each counts, so that what else the machine does hits
all alike.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

from flashmem_lab import workflow
from flashmem_lab.bench.cuda import cuda_works
from flashmem_lab.bench.eager import Eager
from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser
from flashmem_lab.bench.runs import zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.cli.parser import STORAGES
from flashmem_lab.device import DeviceSpec
from flashmem_lab.devices import open_device
from flashmem_lab.graph.peer import Peer
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.samples import sample_inputs
from flashmem_lab.trace import Trace
from flashmem_lab.units import Budget

MODELS = ("resnet50", "vit", "gptneo-small", "depth-anything-small", "whisper-medium-encoder")
PASSES = 4  # warm runs of each contestant in its turn


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        model: name in the zoo.
        storage: of the weights.
        layers: launches of a run, about.
        warm_ms: best warm run here, of which the kernels took `kernels_ms` by the device's clock.
        peers: best warm run of each, ms, by name; the first is what counts.
        rel_l2: relative L2 error against onnxruntime.
    """

    model: str
    storage: str
    layers: int
    warm_ms: float
    kernels_ms: float
    peers: Mapping[str, float]
    rel_l2: float

    @property
    def ratio(self) -> float:
        """Time here over that of the first peer: below 1 is faster."""
        return self.warm_ms / next(iter(self.peers.values()))


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("models", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument(
        "--storage", choices=STORAGES, default="auto", help="of the weights; as `run`"
    )
    parser.add_argument(
        "--rounds", type=values.count, default=3, help="turns of each contestant; 3"
    )
    parser.add_argument(
        "--threads", type=values.count, default=os.cpu_count(), help="of onnxruntime; all cores"
    )
    options = parser.parse_args(arguments)
    spec = open_device(options.device)
    eager = spec.kind != "cpu" and cuda_works()
    facts = machine(("pyopencl", "numpy", "torch" if eager else "onnxruntime"))
    facts |= {"device": spec.name, "threads": str(options.threads)}
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, packed):
            rows.append(_measure(name, path, packed, spec, options, eager=eager))
    if options.json:
        listed = [asdict(row) | {"ratio": row.ratio} for row in rows]
        print_json({"schema": "flashmem-lab/bench-models/2", "machine": facts, "models": listed})
    else:
        columns = (
            "Model",
            "Storage",
            "Layers",
            "Warm",
            "kernels",
            *rows[0].peers,
            "Ratio",
            "Error",
        )
        print_table([_cells(row) for row in rows], columns=columns)
        print(sentence(facts))
    return 0


def _cells(row: Row) -> list[str]:
    times = (f"{ms:.1f} ms" for ms in (row.warm_ms, row.kernels_ms, *row.peers.values()))
    error = f"{row.rel_l2:.0e}"
    return [row.model, row.storage, str(row.layers), *times, f"{row.ratio:.2f}", error]


def _measure(
    name: str,
    path: Path,
    cache: Path,
    spec: DeviceSpec,
    options: argparse.Namespace,
    *,
    eager: bool,
) -> Row:
    storage = None if options.storage == "auto" else Storage(options.storage)
    precision = Precision(options.precision)
    prepared = workflow.load(path, device=spec, precision=precision, storage=storage)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=cache)
    inputs = sample_inputs(made.program)
    best: dict[str, float] = {}
    warm_ms = kernels_ms = float("inf")
    with ExitStack() as stack:
        runtime = stack.enter_context(closing(workflow.open_runtime(spec)))
        peers: dict[str, Callable[[], float]]
        if eager:
            rival = stack.enter_context(closing(Eager(name, offload=False)))
            peers = {
                "PyTorch fp32": lambda: rival.run_ms(inputs),
                "PyTorch TF32": lambda: rival.run_ms(inputs, tf32=True),
            }
        else:
            session = Peer(path, threads=options.threads)
            peers = {"onnxruntime": lambda: session.run_ms(inputs)}
        for peer_ms in peers.values():
            peer_ms()  # the first run allocates
        for _ in range(options.rounds):
            for peer, peer_ms in peers.items():
                took = min(peer_ms() for _ in range(PASSES))
                best[peer] = min(best.get(peer, took), took)
            result = runtime.run(made.program, made.packed.path, inputs, repeat=PASSES + 1)
            warm_ms = min(warm_ms, *result.warm_ms)
            kernels_ms = min(kernels_ms, _kernels_ms(result.trace))
    error = workflow.checked(prepared, inputs, result.outputs).rel_l2
    held = {w.storage for w in prepared.model.weights.values()}
    kept = Storage.IMAGE2D if Storage.IMAGE2D in held else Storage.BUFFER
    return Row(name, kept.value, len(made.program.layers), warm_ms, kernels_ms, best, error)


def _kernels_ms(trace: Trace) -> float:
    """What the kernels of the quickest warm run took, by the device's clock.

    Of those runs whose launches have times of their own.
    """
    runs: dict[int, int] = {}
    whole = {event.run for event in trace.timeline.events if event.kind == "replay"}
    for event in trace.timeline.events:
        if event.kind == "launch" and event.run > 0 and event.run not in whole:
            runs[event.run] = runs.get(event.run, 0) + event.end_ns - event.start_ns
    return min(runs.values(), default=0) / 1e6
