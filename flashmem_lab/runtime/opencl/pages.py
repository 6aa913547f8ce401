"""Activations at planned places of the host's memory, whose pages are given back for room.

Where a buffer of all activations does not fit beside the weights (`arena_of`), each would have a
block of its own, made and freed in every run; and new memory costs a fault, zeros and a cache miss
for each of its pages (MobileNetV2 at a budget of 10 %: more than all its kernels). On a device
that works in the host's memory an activation that has ended leaves its pages where they are: what
comes to lie there next takes them over, and only where room is short are they given back.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import pyopencl as cl

from flashmem_lab.errors import DeviceError
from flashmem_lab.program.program import DeviceObject
from flashmem_lab.runtime.arena import Arena

Part = tuple[int, int]
"""Bytes from .. to."""


@dataclass(eq=False, slots=True)
class Left:
    """What an activation left behind, without what others have taken over since.

    Attributes:
        parts: of the whole, apart from each other.
    """

    parts: list[Part]


class ActivationPages:
    """One buffer over memory of the host, with a place for each activation.

    Args:
        context: where the buffer is made.
        arena: the places; those of activations that live at one time do not overlap.

    Raises:
        DeviceError: the system has no room for them.
    """

    def __init__(self, context: cl.Context, arena: Arena) -> None:
        self._arena = arena
        self.bytes = arena.bytes
        try:
            self._memory = mmap.mmap(-1, arena.bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError) as error:
            raise DeviceError(
                f"the system has no room for {arena.bytes} bytes of activations: {error}",
                hint="choose smaller inputs (--dim, --shape) or a model that computes less at once",
            ) from error
        with suppress(OSError):  # a system without large pages
            # What was given back comes again in 2 MiB: Depth-Anything at 30 %, 141 to 115 ms.
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR
        self._whole = cl.Buffer(context, flags, hostbuf=self._memory)
        self._places: dict[str, cl.Buffer] = {}
        self._left: list[Left] = []

    def place(self, item: DeviceObject) -> cl.Buffer:
        """The place of an activation."""
        if item.name not in self._places:
            offset, flags = self._arena.offsets[item.name], cl.mem_flags.READ_WRITE
            self._places[item.name] = self._whole.get_sub_region(offset, item.bytes, flags)
        return self._places[item.name]

    def left_for(self, item: DeviceObject) -> int:
        """Bytes that ended activations have left where this one will lie."""
        begin, end = self._span(item)
        found = 0
        for left in self._left:
            for start, stop in left.parts:
                if start < end and begin < stop:
                    found += min(end, stop) - max(begin, start)
        return found

    def take_over(self, item: DeviceObject) -> None:
        """Takes what ended activations have left there; they no longer have it."""
        begin, end = self._span(item)
        for left in self._left:
            if any(start < end and begin < stop for start, stop in left.parts):
                left.parts = [
                    part
                    for start, stop in left.parts
                    for part in ((start, min(stop, begin)), (max(start, end), stop))
                    if part[0] < part[1]
                ]
        self._left = [left for left in self._left if left.parts]

    def end(self, item: DeviceObject) -> Left:
        """Ends an activation: its bytes are left."""
        left = Left([self._span(item)])
        self._left.append(left)
        return left

    def give_back(self, left: Left) -> int:
        """Gives pages back to the system, which no command may use any more; how many bytes."""
        size = 0
        for start, stop in left.parts:
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            pages = (stop - first) // mmap.PAGESIZE
            if pages > 0:
                self._memory.madvise(mmap.MADV_DONTNEED, first, pages * mmap.PAGESIZE)
            size += stop - start
        if left in self._left:
            self._left.remove(left)
        left.parts = []
        return size

    def release(self) -> None:
        """Releases the buffer; no command may use it any more."""
        while self._places:
            self._places.popitem()[1].release()
        self._whole.release()

    def _span(self, item: DeviceObject) -> Part:
        begin = self._arena.offsets[item.name]
        return begin, begin + item.bytes
