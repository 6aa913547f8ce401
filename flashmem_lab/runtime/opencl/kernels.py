"""Kernels from source: each distinct text is built once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import pyopencl as cl

from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl.errors import explain_build, translating


class Kernels:
    """Built programs of one device, kept for as long as the runtime is open.

    Binaries are cached on disk by the driver (PoCL, NVIDIA) or else by pyopencl. Building in
    threads was tried: 34 kernels took the same 6.3 s on PoCL, which compiles under one lock, and
    8 % less on Intel's CPU runtime (2 cores, 2026-11). PoCL finishes a kernel at its first launch.

    Args:
        context, device: where they will run.
    """

    def __init__(self, context: cl.Context, device: cl.Device) -> None:
        self._context = context
        self._device = device
        self._built: dict[str, cl.Program] = {}

    def build(
        self, sources: Sequence[KernelSource], progress: Callable[[int, int], None] | None = None
    ) -> list[cl.Kernel]:
        """A kernel for each of `sources`; kernel objects carry arguments, so each gets its own.

        Raises:
            DeviceError: a source does not compile, with the compiler's first lines.
        """
        missing = {s.source: s for s in sources if s.source not in self._built}
        for done, (source, kernel) in enumerate(missing.items(), start=1):
            self._built[source] = self._compile(kernel)
            if progress is not None:
                progress(done, len(missing))
        with translating("looking up kernels"):
            return [cl.Kernel(self._built[s.source], s.entry) for s in sources]

    def _compile(self, kernel: KernelSource) -> cl.Program:
        try:
            program = cl.Program(self._context, kernel.source)
            with warnings.catch_warnings():
                # pyopencl warns of whatever a compiler says, be it "build successful".
                warnings.simplefilter("ignore", cl.CompilerWarning)
                program.build(devices=[self._device])
        except cl.Error as error:
            raise explain_build(error, kernel.entry) from error
        return program
