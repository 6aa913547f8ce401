"""The runtime protocol on an OpenCL device of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType

import numpy as np
import pyopencl as cl

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.errors import UsageError
from flashmem_lab.program.program import Program
from flashmem_lab.runtime.base import Progress, RunResult
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.measured import Building, Pass, result_of
from flashmem_lab.runtime.opencl.binaries import KernelBinaries
from flashmem_lab.runtime.opencl.code import forget_code
from flashmem_lab.runtime.opencl.engine import Engine, OpenDevice
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.heap import return_freed_blocks
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.layout import Layout
from flashmem_lab.runtime.opencl.query import find, spec_of
from flashmem_lab.runtime.opencl.residency import ResidencySampler
from flashmem_lab.runtime.opencl.warmup import finishes_at_launch, first_launches
from flashmem_lab.runtime.pagecache import PageCache
from flashmem_lab.runtime.ports import check_inputs
from flashmem_lab.runtime.weightfile import WeightFiles


class OpenCLRuntime:
    """Runs programs on one device; a context manager. Not for several threads at once.

    Args:
        device_id: such as "ocl:0".
        binaries: folder where compiled kernels are kept, if anywhere.
        pages: what becomes of the pages of weight files that were read.
        recorded: whether launches that do not change are recorded and replayed from the third run
            on, where the device can (`CommandBuffers`).

    Attributes:
        spec: the device.

    Raises:
        UsageError: there is no such device.
        DeviceError: it cannot be opened.
    """

    def __init__(
        self,
        device_id: str,
        binaries: Path | None = None,
        pages: PageCache = PageCache.AUTO,
        *,
        recorded: bool = False,
    ) -> None:
        device = find(device_id)
        self.spec = spec_of(device_id, device)
        if self.spec.kind == "cpu":
            return_freed_blocks()
        with translating(f"opening {device_id}"):
            context = cl.Context([device])
            timed = cl.command_queue_properties.PROFILING_ENABLE
            transfer = cl.CommandQueue(context, properties=timed)
            self._device = OpenDevice(
                device=device,
                context=context,
                compute=cl.CommandQueue(context, properties=timed),
                transfer=transfer,
                host_memory=works_in_place(context, transfer),
                placed=wants_places(self.spec),
            )
        kept = KernelBinaries(device, binaries) if binaries is not None else None
        self._kernels = Kernels(context, device, kept)
        self._pages = pages
        self._recorded = recorded
        self._ledger: Ledger | None = None

    def __enter__(self) -> OpenCLRuntime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the queues; every object was released with the run that made it."""
        with translating("closing the device"):
            self._device.transfer.finish()
            self._device.compute.finish()

    def held_bytes(self) -> Mapping[str, int]:
        """See `Runtime.held_bytes`."""
        ledger = self._ledger
        return ledger.held_bytes() if ledger is not None else {}

    def run(
        self,
        program: Program,
        weights: Path | Sequence[Path],
        inputs: Mapping[str, np.ndarray],
        *,
        repeat: int = 1,
        progress: Progress | None = None,
    ) -> RunResult:
        """See `Runtime.run`. Kernels are built before the clock of the first run starts.

        `peak_bytes` has "host" too: the highest resident set of this process. The trace's notes
        have the resident set before the first run, what the kernels took to build, the most that
        was held at once, at most the peak, and whether as "blocks" or in "one buffer".
        """
        if repeat < 1:
            raise UsageError(f"a program runs at least once, not {repeat} times")
        arrays = check_inputs(program.inputs, inputs)
        paths = [weights] if isinstance(weights, Path) else weights
        file = WeightFiles(paths, program.spans, self._pages)
        try:
            begun_ns, compiled_before = perf_counter_ns(), self._kernels.compiled
            layout = self._layout(program)
            kernels = self._build(program, layout, progress)
            compile_ms = (perf_counter_ns() - begun_ns) / 1e6
            if self.spec.kind == "cpu":
                forget_code()
            self._ledger = ledger = Ledger(program.budget_bytes)
            engine = Engine(self._device, program, layout, file, kernels, ledger)
            try:
                passes: list[Pass] = []
                with ResidencySampler() as residency:
                    for at in range(repeat):
                        if passes:
                            passes[-1].outputs.clear()  # only the last ones are given back
                        keeping = _telling(progress, "keeping weights at hand")
                        engine.make_ready(at, self._recorded, keeping)
                        telling = _telling(progress, f"run {at + 1} of {repeat}")
                        passes.append(engine.run(at, arrays, telling, again=at + 1 < repeat))
                    residency.sample()
                engine.detach(passes[-1].outputs)
                booking = engine.booking
            finally:
                engine.close()
            assert ledger.total == 0, "everything that was created is released"
        finally:
            self._ledger = None
            file.close()
        self._kernels.keep()  # after the outputs: PoCL compiles once more when it is asked
        return result_of(
            program,
            passes,
            booking,
            residency.samples,
            Building(compile_ms, self._kernels.compiled - compiled_before),
            origin="measured",
            device=self.spec.id,
            notes={
                "driver": self.spec.driver,
                "device": self.spec.name,
                "held_peak_bytes": str(ledger.peak_bytes()["total"]),
                "objects": "blocks" if layout.places is None else "one buffer",
            },
        )

    def prepare(self, program: Program, progress: Progress | None = None) -> None:
        """See `Runtime.prepare`."""
        self._build(program, self._layout(program), progress)
        self._kernels.keep()

    def _layout(self, program: Program) -> Layout:
        return Layout.of(program, self._device.device, tells=self._device.placed)

    def _build(
        self, program: Program, layout: Layout, progress: Progress | None
    ) -> list[cl.Kernel]:
        """The kernels of a program, finished."""
        kernels = self._kernels.build(layout.sources, _telling(progress, "building kernels"))
        if finishes_at_launch(self._device.device):
            telling = _telling(progress, "finishing kernels")
            first_launches(program, kernels, layout.told, self._device.compute, telling)
        return kernels


def wants_places(device: DeviceSpec) -> bool:
    """Whether kernels are told where operands begin, instead of being given parts of a buffer.

    On a CPU parts cost nothing, and its compilers know more of a pointer that is an argument.
    """
    return device.kind == "gpu"


def _telling(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """`progress` with its first argument filled in."""
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
