"""Launches prepared: numbers set once, objects only where they changed since the last launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyopencl as cl

from flashmem_lab.program.program import Launch, Move, Program
from flashmem_lab.runtime.opencl.objects import DeviceMemory, DeviceObjects

Constants = tuple[tuple[int, str, float], ...]


class _Prepared:
    """A kernel object of its own for each set of numbers; setting one argument takes some 5 us."""

    def __init__(self, kernel: cl.Kernel, constants: Constants) -> None:
        self.kernel = kernel
        self._held: dict[int, DeviceMemory | np.int32] = {}
        for at, kind, value in constants:
            kernel.set_arg(at, np.int32(value) if kind == "int" else np.float32(value))

    def set(self, at: int, value: DeviceMemory | np.int32) -> None:
        """Sets an argument; what is held here is not freed, so another one is never the same."""
        if self._held.get(at) is not value:
            self.kernel.set_arg(at, value)
            self._held[at] = value


class Launches:
    """Enqueues the launches of one program, run after run.

    Args:
        program: whose launches.
        kernels: one for each of program.kernels.
    """

    def __init__(self, program: Program, kernels: Sequence[cl.Kernel]) -> None:
        self._sources = program.kernels
        self._kernels = kernels
        self._prepared: dict[tuple[int, Constants], _Prepared] = {}
        self._of: dict[int, tuple[_Prepared, tuple[tuple[int, str], ...]]] = {}

    def enqueue(
        self,
        queue: cl.CommandQueue,
        command: Launch | Move,
        objects: DeviceObjects,
        wait_for: Sequence[cl.Event],
        more: Sequence[DeviceMemory | np.int32] = (),
    ) -> cl.Event:
        """Enqueues a launch, with `more` behind its own arguments, and returns its event."""
        prepared, wanted = self._of.get(command.id) or self._prepare(command)
        for at, name in wanted:
            prepared.set(at, objects[name])
        for at, value in enumerate(more, start=len(command.args)):
            prepared.set(at, value)
        return cl.enqueue_nd_range_kernel(
            queue,
            prepared.kernel,
            command.global_size,
            command.local_size or None,
            wait_for=wait_for or None,
        )

    def _prepare(self, command: Launch | Move) -> tuple[_Prepared, tuple[tuple[int, str], ...]]:
        numbered = list(enumerate(command.args))
        constants = tuple(
            (at, arg.kind, float(arg.value)) for at, arg in numbered if arg.kind != "object"
        )
        key = (command.kernel, constants)
        if key not in self._prepared:
            program = self._kernels[command.kernel].program
            own = cl.Kernel(program, self._sources[command.kernel].entry)
            self._prepared[key] = _Prepared(own, constants)
        wanted = tuple((at, str(arg.value)) for at, arg in numbered if arg.kind == "object")
        self._of[command.id] = self._prepared[key], wanted
        return self._of[command.id]
