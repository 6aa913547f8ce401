"""Kernels from source or from a kept binary: each distinct text is built once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import pyopencl as cl

from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl.binaries import BinaryCache
from flashmem_lab.runtime.opencl.errors import explain_build, translating


class Kernels:
    """Built programs of one device, kept for as long as the runtime is open.

    Building in threads was tried: 34 kernels took the same 6.3 s on PoCL, which compiles under one
    lock, and 8 % less on Intel's CPU runtime (2 cores, 2026-11). PoCL finishes a kernel at its
    first launch.

    Args:
        context, device: where they will run.
        binaries: where compiled kernels are kept for later processes; None keeps none.

    Attributes:
        compiled: how many sources were compiled so far, no binary of them having been kept.
    """

    def __init__(
        self, context: cl.Context, device: cl.Device, binaries: BinaryCache | None = None
    ) -> None:
        self._context = context
        self._device = device
        self._binaries = binaries
        self._built: dict[str, cl.Program] = {}
        self._unsaved: set[str] = set()
        self.compiled = 0

    def build(
        self, sources: Sequence[KernelSource], progress: Callable[[int, int], None] | None = None
    ) -> list[cl.Kernel]:
        """A kernel for each of `sources`; kernel objects carry arguments, so each gets its own.

        Raises:
            DeviceError: a source does not compile, with the compiler's first lines.
        """
        missing = {s.source: s for s in sources if s.source not in self._built}
        for done, (source, kernel) in enumerate(missing.items(), start=1):
            self._built[source] = self._kept(kernel) or self._compile(kernel)
            if progress is not None:
                progress(done, len(missing))
        with translating("looking up kernels"):
            return [cl.Kernel(self._built[s.source], s.entry) for s in sources]

    def keep(self) -> None:
        """Keeps the binaries of what was compiled since; call it when kernels were launched once.

        A driver that finishes a kernel at its first launch has the finished one in the binary. A
        kept kernel that is later launched with another work-group size is finished again, which
        the driver remembers by itself. PoCL also compiles each kernel for any work-group size
        before it gives its binary (0.26 s each, 2026-11): worth it for a bundle, which is made to
        be run often, not for every model that somebody looks at.
        """
        if self._binaries is None:
            return
        for source in self._unsaved:
            with suppress(cl.Error):  # a driver that gives no binaries compiles again
                (binary,) = self._built[source].binaries
                self._binaries.save(source, binary)
        self._unsaved.clear()

    def _kept(self, kernel: KernelSource) -> cl.Program | None:
        """The program of a kept binary; None if there is none that the driver takes."""
        binary = self._binaries.load(kernel.source) if self._binaries is not None else None
        if binary is None:
            return None
        try:
            program = cl.Program(self._context, [self._device], [binary])
            self._quietly_build(program)
            cl.Kernel(program, kernel.entry)
        except cl.Error:
            return None
        return program

    def _compile(self, kernel: KernelSource) -> cl.Program:
        try:
            program = cl.Program(self._context, kernel.source)
            self._quietly_build(program)
        except cl.Error as error:
            raise explain_build(error, kernel.entry) from error
        self.compiled += 1
        self._unsaved.add(kernel.source)
        return program

    def _quietly_build(self, program: cl.Program) -> None:
        with warnings.catch_warnings():
            # pyopencl warns of whatever a compiler says, be it "build successful".
            warnings.simplefilter("ignore", cl.CompilerWarning)
            program.build(devices=[self._device])
