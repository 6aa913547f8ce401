"""Weights that a device uses where their file lies in the host's memory: nothing is copied.

Where a device works in the host's memory and takes memory it is given as it is
(`CL_MEM_USE_HOST_PTR`), a weight that lies in a buffer needs no second place.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence

import numpy as np
import pyopencl as cl

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, ObjectKind, Program
from flashmem_lab.runtime.filemap import can_map
from flashmem_lab.runtime.opencl.ahead import ReadAhead
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.weightfile import WeightFiles

_PROBE_BYTES = 4 * 2**20


def works_in_place(context: cl.Context, queue: cl.CommandQueue) -> bool:
    """Whether the device uses memory of the host as it is, found out by trying: 0.2 ms.

    A command on a few bytes of memory that nobody has touched must leave the rest of it untouched.
    """
    if not can_map() or not queue.device.type & cl.device_type.CPU:
        return False
    memory = mmap.mmap(-1, _PROBE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
    with translating("trying memory of the host"):
        buffer = cl.Buffer(context, flags, hostbuf=memory)
        cl.enqueue_copy(queue, np.empty(4, np.uint8), buffer)
        buffer.release()
    return _touched_pages(memory) <= _PROBE_BYTES // mmap.PAGESIZE // 2


class InPlace:
    """The weights of a program that its device uses where they lie.

    Where pages are dropped from memory after use, those that stay are copied: what is mapped cannot
    be dropped, nor what lies in one piece of the file with it.

    Args:
        program: sound.
        file: its packed weights.
        alignment: of memory that the device takes, bytes; 0 if it takes none.

    Attributes:
        at_once: those that were found sound; see `look`.
    """

    def __init__(self, program: Program, file: WeightFiles, alignment: int) -> None:
        self._file = file
        self._names: frozenset[str] = frozenset()
        self._buffers: dict[str, cl.Buffer] = {}
        self._present: set[str] = set()
        self._ahead: ReadAhead | None = None
        self.at_once: frozenset[str] = frozenset()
        if alignment and program.transport is Transport.MAP:
            stay = {one.object for one in program.memory if isinstance(one, Alloc) and one.once}
            self._names = frozenset(
                item.name
                for item in program.objects.values()
                if item.pool is Pool.TEXTURE
                and item.kind is ObjectKind.BUFFER
                and item.bytes == program.spans[item.name].bytes
                and program.spans[item.name].offset % alignment == 0
                and (file.kept or item.name not in stay)
            )

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @property
    def at_hand(self) -> frozenset[str]:
        """Those that were found sound and are in memory: to bring them takes no disk."""
        return self.at_once if self._file.kept else frozenset()

    def look(self) -> None:
        """Finds out which weights are known to be sound by now."""
        if len(self.at_once) < len(self._names):
            self.at_once = frozenset(name for name in self._names if self._file.sound(name))

    def buffer(self, context: cl.Context, weight: str) -> cl.Buffer:
        """The buffer over the bytes of a weight; `bring` must precede its use, `forget` follow it.

        It is an address and no memory, so it is made once and stays until `release`.
        """
        if weight not in self._buffers:
            flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
            bytes_ = self._file.in_place(weight)
            self._buffers[weight] = cl.Buffer(context, flags, hostbuf=bytes_)
        return self._buffers[weight]

    def read_ahead(self, weights: Sequence[tuple[str, int]]) -> ReadAhead | None:
        """What reads these weights ahead in every run; None if there are none.

        Args:
            weights: their names and bytes, in order of use, the same ones in each call.
        """
        if self._ahead is None and weights:
            self._ahead = ReadAhead(weights, self._file.read_ahead, self._present.__contains__)
        return self._ahead

    def bring(self, weight: str, first_row: int, rows: int) -> None:
        """See `WeightFiles.bring`."""
        self._present.add(weight)
        self._file.bring(weight, first_row, rows)

    def bring_sound(self, weight: str) -> None:
        """See `WeightFiles.bring_sound`."""
        self._present.add(weight)
        self._file.bring_sound(weight)

    def forget(self, weight: str) -> None:
        """See `WeightFiles.forget`."""
        self._file.forget(weight)
        self._present.discard(weight)
        if self._ahead is not None:
            self._ahead.forgotten()

    def stop_reading(self) -> None:
        """Ends what reads ahead."""
        if self._ahead is not None:
            self._ahead.stop()

    def release(self) -> None:
        """Releases the buffers; no command may use them any more."""
        while self._buffers:
            self._buffers.popitem()[1].release()


def _touched_pages(memory: mmap.mmap) -> int:
    """Pages that were touched since they were mapped."""
    pages = np.zeros(len(memory) // mmap.PAGESIZE, np.uint8)
    view = np.frombuffer(memory, np.uint8)
    address, size = ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(len(memory))
    if ctypes.CDLL(None).mincore(address, size, ctypes.c_void_p(pages.ctypes.data)):
        return len(pages)
    return int(np.count_nonzero(pages & 1))
