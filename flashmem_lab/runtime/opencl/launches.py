"""Launches prepared: numbers set once, objects only where they changed since the last launch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyopencl as cl

from flashmem_lab.program.placed import Number, Told
from flashmem_lab.program.program import Launch, Move, Program
from flashmem_lab.runtime.opencl.commandbuffer import Launched
from flashmem_lab.runtime.opencl.objects import DeviceMemory, DeviceObjects, texel_format

Constants = tuple[tuple[int, str, float], ...]
"""Place, type and value of arguments."""

Wanted = tuple[tuple[int, str], ...]
"""Place and name of the objects among them."""

_TYPES: Mapping[str, Callable[[float], np.generic]] = {
    "int": np.int32,
    "float": np.float32,
    "ulong": np.uint64,
}


class _Prepared:
    """A kernel object of its own for each set of numbers."""

    def __init__(self, kernel: cl.Kernel) -> None:
        self.kernel = kernel
        self._held: dict[int, DeviceMemory | np.int32] = {}

    def set(self, at: int, value: DeviceMemory | np.int32) -> bool:
        """Sets an argument, unless it is set already; whether it was not.

        What is held here is not freed, so another one is never the same.
        """
        if self._held.get(at) is value:
            return False
        self.kernel.set_arg(at, value)
        self._held[at] = value
        return True

    def replace(self, old: DeviceMemory, new: DeviceMemory) -> None:
        """Sets `new` where `old` is set."""
        for at in [at for at, value in self._held.items() if value is old]:
            self.set(at, new)


class Launches:
    """Enqueues the launches of one program, run after run.

    Args:
        program: whose launches.
        kernels: one for each of program.kernels.
        told: the numbers that each kernel takes behind all else (`program.placed`).
    """

    def __init__(
        self,
        program: Program,
        kernels: Sequence[cl.Kernel],
        told: Sequence[Sequence[Number]],
    ) -> None:
        self._sources = program.kernels
        self._specs = program.objects
        self._kernels = kernels
        self._told = told
        self._prepared: dict[tuple[int, Constants], _Prepared] = {}
        self._of: dict[int, tuple[_Prepared, Wanted]] = {}
        self._holders: dict[int, set[_Prepared]] = defaultdict(set)  # by id of what they hold
        self._stand_ins: dict[type[DeviceMemory], DeviceMemory] = {}

    def enqueue(
        self,
        queue: cl.CommandQueue,
        command: Launch | Move,
        objects: DeviceObjects,
        wait_for: Sequence[cl.Event],
        more: Sequence[DeviceMemory | np.int32] = (),
    ) -> cl.Event:
        """Enqueues a launch, with `more` behind its own arguments, and returns its event."""
        prepared, wanted = self._of.get(command.id) or self._prepare(command, objects, len(more))
        for at, name in wanted:
            memory = objects[name]
            if prepared.set(at, memory):
                self._holders[id(memory)].add(prepared)
        for at, value in enumerate(more, start=len(command.args)):
            if prepared.set(at, value) and not isinstance(value, np.int32):
                self._holders[id(value)].add(prepared)
        return cl.enqueue_nd_range_kernel(
            queue,
            prepared.kernel,
            command.global_size,
            command.local_size or None,
            wait_for=wait_for or None,
        )

    def ready(self, launches: Iterable[Launch], objects: DeviceObjects) -> tuple[Launched, ...]:
        """Launches of which no argument will change: a kernel object for each, with all of them."""
        found = []
        for command in launches:
            constants, wanted = self._arguments(command, objects)
            kernel = self._own(command, constants)
            for at, name in wanted:
                kernel.set_arg(at, objects.always(name))
            found.append(Launched(kernel, command.global_size, command.local_size or None))
        return tuple(found)

    def let_go(self, memory: DeviceMemory) -> None:
        """Makes no kernel hold what is about to be released.

        A driver may keep memory for as long as it is an argument of a kernel: NVIDIA's does.
        """
        for prepared in self._holders.pop(id(memory), ()):
            prepared.replace(memory, self._stand_in(memory))

    def release(self) -> None:
        """Drops the kernels and what they hold; none may be running."""
        self._of.clear()
        self._prepared.clear()
        self._holders.clear()
        self._stand_ins.clear()

    def _stand_in(self, memory: DeviceMemory) -> DeviceMemory:
        """Something small of the same type."""
        if type(memory) not in self._stand_ins:
            context, flags = self._kernels[0].context, cl.mem_flags.READ_WRITE
            pixel = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
            self._stand_ins[type(memory)] = (
                cl.create_image(context, flags, pixel, shape=(1, 1))
                if isinstance(memory, cl.Image)
                else cl.Buffer(context, flags, pixel.itemsize)
            )
        return self._stand_ins[type(memory)]

    def _prepare(
        self, command: Launch | Move, objects: DeviceObjects, more: int
    ) -> tuple[_Prepared, Wanted]:
        constants, wanted = self._arguments(command, objects, more)
        key = (command.kernel, constants)
        if key not in self._prepared:
            self._prepared[key] = _Prepared(self._own(command, constants))
        self._of[command.id] = self._prepared[key], wanted
        return self._of[command.id]

    def _own(self, command: Launch | Move, constants: Constants) -> cl.Kernel:
        """A kernel object with numbers set; setting one argument takes some 5 us."""
        program = self._kernels[command.kernel].program
        kernel = cl.Kernel(program, self._sources[command.kernel].entry)
        for at, kind, value in constants:
            kernel.set_arg(at, _TYPES[kind](value))
        return kernel

    def _arguments(
        self, command: Launch | Move, objects: DeviceObjects, more: int = 0
    ) -> tuple[Constants, Wanted]:
        """Numbers and names of objects, with `more` arguments behind the command's own."""
        numbered = list(enumerate(command.args))
        constants = tuple(
            (at, arg.kind, arg.value) for at, arg in numbered if not isinstance(arg.value, str)
        )
        wanted = tuple((at, arg.value) for at, arg in numbered if isinstance(arg.value, str))
        names = dict(wanted)
        constants += tuple(
            (at, number.type, self._tell(number.told, names.get(number.argument), objects))
            for at, number in enumerate(self._told[command.kernel], start=len(numbered) + more)
        )
        return constants, wanted

    def _tell(self, told: Told, name: str | None, objects: DeviceObjects) -> int:
        """What a kernel is told of an object; of one of `more`, that it begins at 0."""
        if name is None:
            return 0
        if told is Told.ROW_TEXELS:
            return self._specs[name].width
        begin = objects.begin(name)
        return (
            begin // texel_format(self._specs[name]).itemsize if told is Told.FIRST_TEXEL else begin
        )
