"""How a program's objects lie on a device, and its kernels as they want them."""

from __future__ import annotations

from dataclasses import dataclass

import pyopencl as cl

from flashmem_lab.device.spec import Transport
from flashmem_lab.program.placed import Number, numbers, placed
from flashmem_lab.program.program import KernelSource, ObjectKind, Program
from flashmem_lab.runtime.opencl.objects import texel_format
from flashmem_lab.runtime.places import Places, places_of

_ALIGNMENTS = (256, 16)
"""Of places, bytes: what memory is read in, or else a texel, where sizes leave no room for that."""
_INT = 2**31


@dataclass(frozen=True, slots=True)
class Layout:
    """Where objects lie, and what kernels are told of it.

    Attributes:
        places: in one buffer (`OneBuffer`); None for blocks of their own (`BlockObjects`).
        sources: one for each of program.kernels.
        told: the numbers that each takes behind all else.
    """

    places: Places | None
    sources: tuple[KernelSource, ...]
    told: tuple[tuple[Number, ...], ...]

    @classmethod
    def of(cls, program: Program, device: cl.Device, *, tells: bool) -> Layout:
        """That of `program`.

        Args:
            program: sound.
            device: where it runs.
            tells: whether kernels are told where their operands begin, or given parts of buffers.
        """
        if not tells:
            return cls(None, program.kernels, ((),) * len(program.kernels))
        places = _places_on(device, program)
        lines = places is not None
        return cls(
            places,
            tuple(placed(kernel, lines=lines) for kernel in program.kernels),
            tuple(numbers(kernel, lines=lines) for kernel in program.kernels),
        )


def _places_on(device: cl.Device, program: Program) -> Places | None:
    """Places in one buffer, for a program that streams by copies, if they can be had there.

    With everything pinned nothing is made or released as it runs, and images stay images.
    """
    streams = any(not read.once for read in program.disk)
    if program.transport is not Transport.COPY or not streams:
        return None
    tried = (places_of(program, alignment) for alignment in _ALIGNMENTS)
    places = next((one for one in tried if one is not None), None)
    if places is None or places.bytes > device.max_mem_alloc_size:
        return None
    images = (item for item in program.objects.values() if item.kind is ObjectKind.IMAGE2D)
    texel = min((texel_format(item).itemsize for item in images), default=None)
    most = min(int(device.image_max_buffer_size), _INT - 1)
    return places if texel is None or places.bytes // texel <= most else None
