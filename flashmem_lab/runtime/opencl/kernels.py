"""Kernels from binaries that were kept, or from source: each distinct text is built once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pyopencl as cl

from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl.binaries import KernelBinaries
from flashmem_lab.runtime.opencl.errors import explain_build, translating


class Kernels:
    """Built programs of one device, kept for as long as the runtime is open.

    Binaries make the difference between a cold start and a compilation: the nine kernels of ViT
    take 180 ms from source though PoCL caches what it compiles, 22 ms from binaries (PoCL 3.1,
    2026-11). Building in threads was tried: 34 kernels took the same 6.3 s on PoCL, which compiles
    under one lock, and 8 % less on Intel's CPU runtime (2 cores, 2026-11).

    Args:
        context, device: where they will run.
        binaries: where compiled kernels are kept, if anywhere.

    Attributes:
        compiled: how many sources were compiled so far, no binary of them having been kept.
    """

    def __init__(
        self, context: cl.Context, device: cl.Device, binaries: KernelBinaries | None = None
    ) -> None:
        self._context = context
        self._device = device
        self._binaries = binaries
        self._built: dict[str, cl.Program] = {}
        self.compiled = 0
        self._unkept: tuple[str, ...] = ()  # of the last build, if any of it was compiled

    def build(
        self, sources: Sequence[KernelSource], progress: Callable[[int, int], None] | None = None
    ) -> list[cl.Kernel]:
        """A kernel for each of `sources`; kernel objects carry arguments, so each gets its own.

        Raises:
            DeviceError: a source does not compile, with the compiler's first lines.
        """
        missing = {s.source: s for s in sources if s.source not in self._built}
        kept = self._binaries.load(missing) if self._binaries and missing else {}
        self._unkept = ()
        for done, (source, kernel) in enumerate(missing.items(), start=1):
            program = self._load(kept[source]) if source in kept else None
            if program is None:
                program = self._compile(kernel)
                self._unkept = tuple(missing)
            self._built[source] = program
            if progress is not None:
                progress(done, len(missing))
        with translating("looking up kernels"):
            return [cl.Kernel(self._built[s.source], s.entry) for s in sources]

    def keep(self) -> None:
        """Keeps the binaries of the last build on disk, if any of them was compiled.

        Best done after first launches, on drivers that finish a kernel only then.
        """
        if not self._unkept or self._binaries is None:
            return
        with translating("asking for compiled kernels"):
            of_device = cl.program_info.BINARIES
            found: dict[str, bytes] = {}
            for text in self._unkept:
                listed: Any = self._built[text].get_info(of_device)
                found[text] = listed[0]
        self._unkept = ()
        if all(found.values()):  # a driver may give none
            self._binaries.save(found)

    def _load(self, binary: bytes) -> cl.Program | None:
        """None if the driver does not take what it once gave, after an update, say."""
        try:
            program = cl.Program(self._context, [self._device], [binary])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)
                program.build(devices=[self._device])
        except cl.Error:
            return None
        return program

    def _compile(self, kernel: KernelSource) -> cl.Program:
        try:
            program = cl.Program(self._context, kernel.source)
            with warnings.catch_warnings():
                # pyopencl warns of whatever a compiler says, be it "build successful".
                warnings.simplefilter("ignore", cl.CompilerWarning)
                program.build(devices=[self._device])
        except cl.Error as error:
            raise explain_build(error, kernel.entry) from error
        self.compiled += 1
        return program
