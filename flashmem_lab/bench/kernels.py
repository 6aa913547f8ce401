"""Rates of the product kernel at shapes of real models, beside a BLAS in the same run.

The BLAS is NumPy's; beside a GPU, where PyTorch with CUDA is installed, cuBLAS by way of PyTorch,
in fp32 and with the rounding of TF32.

Each shape is a model of one layer that goes the whole way: lowered, planned, packed and run, its
weight as an image and as a buffer. Passes of all contestants take turns, several times over, and
the best pass counts, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from flashmem_lab import workflow
from flashmem_lab.bench.cuda import cuda_products, cuda_works
from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_precision, bench_parser
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.device import DeviceSpec
from flashmem_lab.devices import open_device
from flashmem_lab.graph import Graph, Node, TensorType, WeightRef
from flashmem_lab.lower import Precision, Storage, lower
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.trace import Trace
from flashmem_lab.units import Budget
from flashmem_lab.workflow import Compiled, Prepared

SHAPES = (
    ("ViT projection", 197, 768, 768),
    ("ViT up", 197, 768, 3072),
    ("ViT down", 197, 3072, 768),
    ("GPT-Neo up", 128, 768, 3072),
    ("GPT-Neo head tile", 128, 768, 8384),
    ("one token", 1, 2048, 8192),
    ("cube", 4096, 4096, 4096),
)
"""Name, rows, reduction, columns."""

PASSES = 4  # of each contestant in its turn


@dataclass(frozen=True, slots=True)
class Row:
    """One shape; rates in GF/s, a multiply-add counting 2.

    Attributes:
        name: where it comes from.
        rows, depth, columns: of (rows x depth) @ (depth x columns).
        image2d, buffer: of the kernel, by the device's own clock; None without images.
        peers: of the product of the same arrays elsewhere, by name; the first is what counts.
        rel_l2: largest relative L2 error against NumPy's product.
    """

    name: str
    rows: int
    depth: int
    columns: int
    image2d: float | None
    buffer: float
    peers: Mapping[str, float]
    rel_l2: float

    def ratio(self, storage: Storage) -> float | None:
        """The kernel's rate over that of the first peer."""
        rate = self.image2d if storage is Storage.IMAGE2D else self.buffer
        return None if rate is None else rate / next(iter(self.peers.values()))


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("kernels", __doc__)
    add_precision(parser, "fp32")
    parser.add_argument(
        "--rounds", type=values.count, default=4, help="turns of each contestant; 4"
    )
    options = parser.parse_args(arguments)
    spec = open_device(options.device)
    cublas = spec.kind != "cpu" and cuda_works()
    facts = machine(("pyopencl", "numpy", *["torch"] * cublas)) | {"device": spec.name}
    facts["blas"] = _blas()
    rows = [
        _measure(*shape, spec, Precision(options.precision), options.rounds, cublas=cublas)
        for shape in SHAPES
    ]
    if options.json:
        listed = [asdict(row) for row in rows]
        schema = "flashmem-lab/bench-kernels/2"
        print_json({"schema": schema, "machine": facts, "rows": listed})
    else:
        columns = ("Product", "Shape", "image2d", "buffer", *rows[0].peers)
        ratios = ("image / " + columns[4], "buffer / " + columns[4])
        print_table([_cells(row) for row in rows], columns=(*columns, *ratios, "error"))
        print(sentence(facts))
    return 0


def _cells(row: Row) -> list[str]:
    ratios = [row.ratio(storage) for storage in (Storage.IMAGE2D, Storage.BUFFER)]
    return [
        row.name,
        f"{row.rows}x{row.depth}x{row.columns}",
        *(
            "-" if rate is None else f"{rate:.0f} GF/s"
            for rate in (row.image2d, row.buffer, *row.peers.values())
        ),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{row.rel_l2:.0e}",
    ]


def _measure(
    name: str,
    m: int,
    k: int,
    n: int,
    spec: DeviceSpec,
    precision: Precision,
    rounds: int,
    *,
    cublas: bool,
) -> Row:
    storages = (Storage.IMAGE2D, Storage.BUFFER) if spec.limits.images else (Storage.BUFFER,)
    generator = np.random.default_rng(0)
    a = generator.standard_normal((m, k), np.float32)
    w = generator.standard_normal((k, n), np.float32)
    expected = a @ w
    peers = cuda_products(a, w) if cublas else {"NumPy": lambda: _numpy_ns(a, w)}
    best: dict[str, float] = {}
    worst = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="flashmem-lab-") as scratch,
        closing(workflow.open_runtime(spec, launching=Launching.SINGLE)) as runtime,
    ):
        stored = Path(scratch) / "w.bin"
        w.tofile(stored)
        graph = product_graph(stored, m, k, n)
        programs = {s: _compiled(graph, spec, precision, s, Path(scratch)) for s in storages}
        for _ in range(rounds):
            for peer, product_ns in peers.items():
                took = min(product_ns() for _ in range(PASSES))
                best[peer] = min(best.get(peer, took), took)
            for storage, made in programs.items():
                result = runtime.run(made.program, made.packed.path, {"a": a}, repeat=PASSES)
                took = min(_passes_ns(result.trace))
                best[storage] = min(best.get(storage, took), took)
                error = np.linalg.norm(result.outputs["out"] - expected)
                worst = max(worst, float(error / np.linalg.norm(expected)))
    rates = {name: 2 * m * k * n / ns for name, ns in best.items()}
    return Row(
        name, m, k, n, rates.get(Storage.IMAGE2D), rates[Storage.BUFFER],
        {peer: rates[peer] for peer in peers}, worst,
    )  # fmt: skip


def _numpy_ns(a: np.ndarray, w: np.ndarray) -> float:
    began = perf_counter_ns()
    np.matmul(a, w)
    return perf_counter_ns() - began


def _compiled(
    graph: Graph, spec: DeviceSpec, precision: Precision, storage: Storage, cache: Path
) -> Compiled:
    """The layer as a program that keeps its weight on the device."""
    model = lower(graph, spec, precision=precision, storage=storage, whole=True)
    prepared = Prepared(graph, model, spec, 0, load_ms=0.0)
    return workflow.compile_plan(
        prepared, workflow.make_plan(prepared, budget=Budget(share=1.0)), cache=cache
    )


def _passes_ns(trace: Trace) -> list[int]:
    """What the kernels of each pass took, by the device's clock; a long reduction has several."""
    passes: dict[int, int] = {}
    for event in trace.timeline.events:
        if event.kind == "launch":
            passes[event.run] = passes.get(event.run, 0) + event.end_ns - event.start_ns
    return list(passes.values())


def product_graph(stored: Path, m: int, k: int, n: int) -> Graph:
    """The graph of out = a @ w, with w (k x n float32, row-major) in a file of its own."""
    weight = WeightRef(stored, 0, 4 * k * n, "float32", (k, n))
    shapes = {"a": (m, k), "w": (k, n), "out": (m, n)}
    return Graph(
        path=stored,
        name="product",
        opset=20,
        nodes=(Node("product", "MatMul", "", ("a", "w"), ("out",)),),
        types={name: TensorType("float32", shape) for name, shape in shapes.items()},
        constants={},
        weights={"w": weight},
        inputs=("a",),
        outputs=("out",),
        fingerprint=f"product-{m}-{k}-{n}",
    )


def _blas() -> str:
    """NumPy's BLAS, by name and version."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{built['name']} {built['version']}"
