"""Weights that a device uses in memory of the host: nothing is copied.

Where a device works in the host's memory and takes memory it is given as it is
(`CL_MEM_USE_HOST_PTR`), a weight that lies in a buffer needs no second place. It lies where the
system keeps its file, or, where nothing is to be kept of that, where the disk wrote it (`Ringed`).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyopencl as cl

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import ObjectKind, Program
from flashmem_lab.runtime.filemap import can_map
from flashmem_lab.runtime.opencl.ahead import ReadAhead, Use
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


def fit_in_place(program: Program, alignment: int) -> frozenset[str]:
    """The weights of a program that its device can use in memory of the host.

    Args:
        program: sound.
        alignment: of memory that the device takes, bytes; 0 if it takes none.
    """
    if not alignment or program.transport is not Transport.MAP:
        return frozenset()
    return frozenset(
        item.name
        for item in program.objects.values()
        if item.pool is Pool.TEXTURE
        and item.kind is ObjectKind.BUFFER
        and item.bytes == program.spans[item.name].bytes
        and program.spans[item.name].offset % alignment == 0
    )


class InPlace(Protocol):
    """Holds weights of a program in memory of the host that its device uses.

    Attributes:
        at_once: those that are brought whole.
        at_hand: those of them that are in memory: to bring them takes no disk.
        ahead: what reads the others of them; None if there are none.
    """

    @property
    def at_once(self) -> frozenset[str]:
        """Those that are brought whole."""
        ...

    @property
    def at_hand(self) -> frozenset[str]:
        """Those of them that are in memory: to bring them takes no disk."""
        ...

    @property
    def ahead(self) -> ReadAhead | None:
        """What reads the others of them; None if there are none."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def buffer(self, context: cl.Context, weight: str) -> cl.Buffer:
        """The buffer over the bytes of a weight; made once, and there until `release`."""
        ...

    def created(self, weight: str) -> None:
        """Hears that the budget has room for a weight."""
        ...

    def bring(self, weight: str, first_row: int, rows: int) -> None:
        """Makes rows of a weight that is not in `at_once` present, checked."""
        ...

    def bring_whole(self, weight: str) -> None:
        """Makes a weight of `at_once` present, which is at hand or was read ahead."""
        ...

    def ended(self, weight: str, used: Sequence[Use]) -> None:
        """Hears that a run needs a weight no more; `used` are the last commands that use it."""
        ...

    def forget(self, weight: str) -> None:
        """Hears that the budget's room for a weight is wanted, which no command uses any more."""
        ...

    def look(self) -> None:
        """Finds out after a run which weights are known to be sound by now."""
        ...

    def stop_reading(self) -> None:
        """Ends what reads ahead."""
        ...

    def release(self) -> None:
        """Releases the buffers; no command may use them any more."""
        ...


class InFile:
    """Weights that lie where the system keeps their file.

    Args:
        names: of the weights.
        file: their packed weights.

    Attributes:
        at_once: those that were found sound; see `look`.
        ahead: None; the file is in memory already.
    """

    ahead: ReadAhead | None = None

    def __init__(self, names: frozenset[str], file: WeightFiles) -> None:
        self._file = file
        self._names = names
        self._buffers: dict[str, cl.Buffer] = {}
        self.at_once: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @property
    def at_hand(self) -> frozenset[str]:
        """All of `at_once`."""
        return self.at_once

    def look(self) -> None:
        """See `InPlace.look`."""
        if len(self.at_once) < len(self._names):
            self.at_once = frozenset(name for name in self._names if self._file.sound(name))

    def buffer(self, context: cl.Context, weight: str) -> cl.Buffer:
        """See `InPlace.buffer`; it is an address and no memory."""
        if weight not in self._buffers:
            flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
            bytes_ = self._file.in_place(weight)
            self._buffers[weight] = cl.Buffer(context, flags, hostbuf=bytes_)
        return self._buffers[weight]

    def created(self, weight: str) -> None:
        """Nothing to do."""

    def bring(self, weight: str, first_row: int, rows: int) -> None:
        """See `WeightFiles.bring`."""
        self._file.bring(weight, first_row, rows)

    def bring_whole(self, weight: str) -> None:
        """See `WeightFiles.bring_sound`."""
        self._file.bring_sound(weight)

    def ended(self, weight: str, used: Sequence[Use]) -> None:
        """Nothing to do: it is forgotten when its room is wanted."""

    def forget(self, weight: str) -> None:
        """See `WeightFiles.forget`."""
        self._file.forget(weight)

    def stop_reading(self) -> None:
        """Nothing to do."""

    def release(self) -> None:
        """See `InPlace.release`."""
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
