"""Streamed weights beside accelerate's offload, on an NVIDIA GPU.

Each model runs four ways on the same inputs: in PyTorch's eager mode with its weights on the
device and with accelerate bringing them from host memory, and here with everything resident and
with weights streamed under a budget that is no larger than accelerate's peak. The least warm time
of each counts. What streaming costs is told by the slower of the resident run and of copying the
same bytes alone, which PyTorch does from pinned memory. The driver's own figure of used memory is
sampled during the streamed runs, beside what was counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

import numpy as np

from flashmem_lab import workflow
from flashmem_lab.bench.cuda import copying_ms
from flashmem_lab.bench.eager import Eager, missing
from flashmem_lab.bench.machine import machine, sentence
from flashmem_lab.bench.options import add_models, add_precision, bench_parser
from flashmem_lab.bench.runs import zoo_model
from flashmem_lab.cli import values
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.devices import open_device
from flashmem_lab.errors import UsageError
from flashmem_lab.lower import Precision
from flashmem_lab.plan import Objective
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget, format_bytes

MODELS = ("gptneo-small", "gptneo-1.3b")
SAMPLE_S = 0.001  # between two questions to the driver


@dataclass(frozen=True, slots=True)
class Row:
    """One model; times are warm, of the quickest run.

    Attributes:
        model: name in the zoo.
        eager_ms, tf32_ms: PyTorch, weights on the device, without and with TF32.
        offload_ms, offload_bytes: accelerate, and the peak of its tensors on the device.
        resident_ms: here, everything on the device.
        streamed_bytes, transfer_ms: what every streamed run copies to the device, and how long
            that takes alone.
        streamed_ms, peak_bytes: here, under the budget, and the peak that was counted.
        driver_bytes: by how much the driver's figure rose in such runs, from an open device with
            its kernels on; None where it has none.
    """

    model: str
    eager_ms: float
    tf32_ms: float
    offload_ms: float
    offload_bytes: int
    resident_ms: float
    streamed_bytes: int
    transfer_ms: float
    streamed_ms: float
    peak_bytes: int
    driver_bytes: int | None


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; prints a table, or JSON."""
    parser = bench_parser("offload", __doc__)
    add_models(parser, MODELS)
    add_precision(parser, "fp32")
    parser.add_argument(
        "--budget", type=values.budget, default="10%", help="of the streamed runs; 10%%"
    )
    parser.add_argument("--repeat", type=values.count, default=8, help="warm runs of each; 8")
    options = parser.parse_args(arguments)
    lacking = missing("torch", "accelerate")
    if lacking:
        raise UsageError(
            f"{' and '.join(lacking)} cannot be found, and this bench is a comparison with them",
            hint="run it on an NVIDIA machine that has PyTorch, transformers and accelerate",
        )
    facts = machine(("pyopencl", "numpy", "torch", "accelerate"))
    rows = []
    for name in options.models:
        with zoo_model(name, options.folder) as (path, packed):
            rows.append(_measure(name, path, packed, options))
    if options.json:
        data = {"schema": "flashmem-lab/bench-offload/1", "machine": facts}
        print_json(
            {**data, "budget": asdict(options.budget), "models": [asdict(row) for row in rows]}
        )
        return 0
    print_table([_cells(row) for row in rows], columns=COLUMNS)
    print(sentence(facts))
    return 0


COLUMNS = (
    "Model", "Eager", "TF32", "Resident", "over eager", "Offload", "its peak", "Moved", "alone",
    "Streamed", "over the slower", "Offload / streamed", "Peak", "By the driver",
)  # fmt: skip


def _cells(row: Row) -> list[str]:
    return [
        row.model,
        *(f"{ms:.1f} ms" for ms in (row.eager_ms, row.tf32_ms, row.resident_ms)),
        f"{row.resident_ms / row.eager_ms:.2f}",
        f"{row.offload_ms:.1f} ms",
        format_bytes(row.offload_bytes),
        format_bytes(row.streamed_bytes),
        f"{row.transfer_ms:.1f} ms",
        f"{row.streamed_ms:.1f} ms",
        f"{row.streamed_ms / max(row.resident_ms, row.transfer_ms):.2f}",
        f"{row.offload_ms / row.streamed_ms:.2f}",
        format_bytes(row.peak_bytes),
        "-" if row.driver_bytes is None else format_bytes(row.driver_bytes),
    ]


def _measure(name: str, path: Path, cache: Path, options: argparse.Namespace) -> Row:
    spec = open_device(options.device)
    prepared = workflow.load(path, device=spec, precision=Precision(options.precision))

    def made(budget: Budget) -> workflow.Compiled:
        plan = workflow.make_plan(prepared, budget=budget, optimize=Objective.WARM)
        return workflow.compile_plan(prepared, plan, cache=cache)

    resident, streamed = made(Budget(share=1.0)), made(options.budget)
    inputs = sample_inputs(resident.program)

    def least(run_ms: Callable[[Mapping[str, np.ndarray]], float]) -> float:
        run_ms(inputs)  # the first one allocates
        return min(run_ms(inputs) for _ in range(options.repeat))

    with closing(Eager(name, offload=False)) as eager:
        eager_ms = least(eager.run_ms)
        tf32_ms = least(lambda given: eager.run_ms(given, tf32=True))
    with closing(Eager(name, offload=True)) as eager:
        offload_ms, offload_bytes = least(eager.run_ms), eager.peak_bytes(inputs)
    if offload_bytes < streamed.program.budget_bytes:
        streamed = made(Budget(bytes=offload_bytes))

    def run(one: workflow.Compiled) -> RunResult:
        with closing(workflow.open_runtime(spec)) as runtime:
            repeat = options.repeat + 1
            return runtime.run(one.program, one.packed.path, inputs, repeat=repeat)

    with closing(workflow.open_runtime(spec)) as runtime:
        runtime.prepare(streamed.program)  # a context and its code take memory of their own
        with _DriverMemory() as used:  # apart: to ask the driver all the time slows runs down
            runtime.run(streamed.program, streamed.packed.path, inputs, repeat=2)
    streaming = run(streamed)
    moved = sum(upload.bytes for upload in streamed.program.transfer if not upload.once)
    return Row(
        model=name,
        eager_ms=eager_ms,
        tf32_ms=tf32_ms,
        offload_ms=offload_ms,
        offload_bytes=offload_bytes,
        resident_ms=min(run(resident).warm_ms),
        streamed_bytes=moved,
        transfer_ms=min(copying_ms(moved) for _ in range(options.repeat)),
        streamed_ms=min(streaming.warm_ms),
        peak_bytes=streaming.peak_bytes["total"],
        driver_bytes=used.rise_bytes,
    )


class _DriverMemory:
    """Samples the memory that NVIDIA's driver says is used, as long as it is entered.

    Attributes:
        rise_bytes: highest figure less the one at the start; None without the package of NVML.
    """

    def __init__(self) -> None:
        self.rise_bytes: int | None = None
        self._stop = Event()
        self._thread = Thread(target=self._sample, name="driver-memory", daemon=True)

    def __enter__(self) -> _DriverMemory:
        if not missing("pynvml"):
            self._nvml = import_module("pynvml")
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0)
            self._before = self._used()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            self._nvml.nvmlShutdown()

    def _used(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def _sample(self) -> None:
        highest = self._before
        while not self._stop.wait(SAMPLE_S):
            highest = max(highest, self._used())
        self.rise_bytes = highest - self._before
