"""First launches before the clock starts, on drivers that finish compiling only then.

PoCL specialises a kernel for its work-group size at the first launch (3.1, 2026-11: 0.1 to 0.2 s
for each of PP-OCR's kernels, on an empty cache). That is building, not running: left to the run,
it would look like compute that no prediction can know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyopencl as cl

from flashmem_lab.lower.layer import Arg
from flashmem_lab.program.carry import Entry
from flashmem_lab.program.placed import Number, Told
from flashmem_lab.program.program import Launch, Move, ObjectKind, Program
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.inline import Carrying
from flashmem_lab.runtime.opencl.objects import DeviceMemory

_SCRATCH = 4096  # bytes; one work-group on extents of 1 touches a few dozen elements
_ZEROS: dict[str, np.generic[Any]] = {"ulong": np.uint64(0), "int": np.int32(0)}
_LATE_COMPILERS = ("Portable Computing Language",)


def finishes_at_launch(device: cl.Device) -> bool:
    """True if the driver completes a kernel at its first launch."""
    return str(device.platform.name) in _LATE_COMPILERS


def first_launches(
    program: Program,
    kernels: Sequence[cl.Kernel],
    told: Sequence[Sequence[Number]],
    queue: cl.CommandQueue,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Launches one work-group of each kernel and work-group size, on scratch objects.

    Every extent and stride is 1, so that our templates compute one element and stop. The scratch
    (4 KiB and a few images of it) is released before the run makes its first object.

    Args:
        program: whose kernels.
        kernels: one for each of program.kernels.
        told: the numbers that each takes behind all else (`program.placed`).
        queue: where to launch them.
        progress: called with the number of kernels launched, and of all.

    Raises:
        DeviceError: a launch is refused.
    """
    distinct = {
        (command.kernel, command.local_size): command
        for command in program.compute
        if isinstance(command, Launch | Move)
    }
    carrying = Carrying(program)
    with translating("launching kernels for the first time"):
        scratch = _Scratch(queue.context)
        try:
            for done, command in enumerate(distinct.values(), start=1):
                scratch.clear(queue)
                kernel = kernels[command.kernel]
                numbers = told[command.kernel]
                lines = {one.argument for one in numbers if one.told is Told.FIRST_TEXEL}
                own = [
                    scratch.value(program, arg, line=at in lines)
                    for at, arg in enumerate(command.args)
                ]
                own += carrying.idle(command, partial(scratch.entry, program))
                kernel.set_args(*own, *[_ZEROS[number.type] for number in numbers])
                local = command.local_size
                cl.enqueue_nd_range_kernel(queue, kernel, local, local).wait()
                if progress is not None:
                    progress(done, len(distinct))
        finally:
            scratch.release()


class _Scratch:
    """Stand-ins for the objects and numbers of a launch."""

    def __init__(self, context: cl.Context) -> None:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        zeros = np.zeros(_SCRATCH, np.uint8)
        self._buffer = cl.Buffer(context, flags, hostbuf=zeros)
        self._images, self._lines = {}, {}
        for dtype, channel in (
            ("float32", cl.channel_type.FLOAT),
            ("float16", cl.channel_type.HALF_FLOAT),
        ):
            pixel = cl.ImageFormat(cl.channel_order.RGBA, channel)
            texel = zeros[: pixel.itemsize]
            self._images[dtype] = cl.create_image(
                context, flags, pixel, shape=(1, 1), hostbuf=texel
            )
            self._lines[dtype] = cl.create_image(
                context, cl.mem_flags.READ_WRITE, pixel, shape=(1,), buffer=self._buffer
            )

    def clear(self, queue: cl.CommandQueue) -> None:
        """Zeros again: what one kernel wrote may be the next one's table of indices."""
        cl.enqueue_fill_buffer(queue, self._buffer, np.zeros(1, np.uint8), 0, _SCRATCH)

    def value(self, program: Program, arg: Arg, *, line: bool) -> Any:
        if arg.kind != "object":
            return np.int32(1) if arg.kind == "int" else np.float32(0)
        item = program.objects[str(arg.value)]
        if item.kind is ObjectKind.BUFFER:
            return self._buffer
        return (self._lines if line else self._images)[item.dtype]

    def entry(self, program: Program, entry: Entry) -> tuple[DeviceMemory, DeviceMemory]:
        """A slot and an object like the entry's."""
        item = program.objects[entry.upload.weight]
        image = item.kind is ObjectKind.IMAGE2D
        return self._buffer, self._images[item.dtype] if image else self._buffer

    def release(self) -> None:
        for held in (*self._images.values(), *self._lines.values(), self._buffer):
            held.release()
