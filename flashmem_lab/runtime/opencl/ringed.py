"""Weights of which nothing is kept: the disk writes them where the device uses them.

They are read past the system's cache into memory that is used again and again (`ring_of`), so no
page is mapped, dropped or cleared for them. That memory is as large as the room that the budget
always has for them, and AHEAD_BYTES, which hold what is not on the device yet. Where that is too
little, each weight has pages of its own, which are given back for room.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyopencl as cl

from flashmem_lab.program.container import align
from flashmem_lab.program.program import Program
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.hostmemory import HostMemory
from flashmem_lab.runtime.opencl.ahead import AHEAD_BYTES, ReadAhead, Use
from flashmem_lab.runtime.opencl.inplace import InFile, InPlace, fit_in_place
from flashmem_lab.runtime.ring import ring_of, room_for_ring, row_of
from flashmem_lab.runtime.weightfile import WeightFiles


def in_place(program: Program, file: WeightFiles, *, alignment: int, activations: int) -> InPlace:
    """What holds the weights that a device uses in memory of the host.

    Where nothing is kept of the file, those that stay on the device are copied: they are read once.

    Args:
        program: sound.
        file: its packed weights.
        alignment: of memory that the device takes, bytes; 0 if it takes none.
        activations: the most bytes that they take.

    Raises:
        DeviceError: the system has no room for them.
    """
    names = fit_in_place(program, alignment)
    if file.kept:
        return InFile(names, file)
    streamed = list(dict.fromkeys(one.weight for one in program.disk if not one.once))
    weights = [name for name in streamed if name in names]
    if not weights:
        return InFile(frozenset(), file)
    room = room_for_ring(program, activations) + AHEAD_BYTES
    # Other weights would take room beside the ring.
    ring = ring_of(program, weights, room) if len(weights) == len(streamed) else None
    return Ringed(program, file, weights, ring)


class Ringed:
    """Weights that are read, whole, into memory of this process.

    Args:
        program: sound.
        file: its packed weights.
        weights: in the order in which they are read.
        ring: their places; None if each has pages of its own.

    Attributes:
        at_once: all of them.
        at_hand: none.
        ahead: reads them.
    """

    at_hand: frozenset[str] = frozenset()

    def __init__(
        self, program: Program, file: WeightFiles, weights: Sequence[str], ring: Arena | None
    ) -> None:
        self._file = file
        self._held = ring is not None
        places = ring or row_of(program, weights)
        self._bytes = {name: program.objects[name].bytes for name in weights}
        self._places = {
            name: (begin, begin + align(self._bytes[name]))
            for name, begin in places.offsets.items()
        }
        self._memory = HostMemory(places.bytes)
        for begin, end in [(0, places.bytes)] if self._held else self._places.values():
            self._memory.in_large_pages(begin, end)
        self._whole: cl.Buffer | None = None
        self._buffers: dict[str, cl.Buffer] = {}
        self.at_once = frozenset(weights)
        joined = {after for before, after in pairwise(weights) if file.near(before, after)}
        self.ahead = ReadAhead(weights, self._places, joined, self._read, held=self._held)

    def __contains__(self, name: object) -> bool:
        return name in self.at_once

    def buffer(self, context: cl.Context, weight: str) -> cl.Buffer:
        """See `InPlace.buffer`."""
        flags = cl.mem_flags.READ_ONLY
        if self._whole is None:
            host = flags | cl.mem_flags.USE_HOST_PTR
            self._whole = cl.Buffer(context, host, hostbuf=self._memory.bytes)
        if weight not in self._buffers:
            begin, size = self._places[weight][0], self._bytes[weight]
            self._buffers[weight] = self._whole.get_sub_region(begin, size, flags)
        return self._buffers[weight]

    def created(self, weight: str) -> None:
        """See `InPlace.created`."""
        self.ahead.made(weight)

    def bring(self, weight: str, first_row: int, rows: int) -> None:
        """Never called: all are `at_once`."""

    def bring_whole(self, weight: str) -> None:
        """Nothing to do: it was read ahead."""

    def ended(self, weight: str, used: Sequence[Use]) -> None:
        """See `InPlace.ended`."""
        self.ahead.ended(weight, used)

    def forget(self, weight: str) -> None:
        """Gives its pages back, unless they are there throughout."""
        if not self._held:
            self._memory.give_back(*self._places[weight])
            self.ahead.forgotten(weight)  # it may be read again from here on

    def look(self) -> None:
        """Nothing to do: they are checked on the way."""

    def stop_reading(self) -> None:
        """See `InPlace.stop_reading`."""
        self.ahead.stop()

    def release(self) -> None:
        """See `InPlace.release`."""
        while self._buffers:
            self._buffers.popitem()[1].release()
        if self._whole is not None:
            self._whole.release()
            self._whole = None

    def _read(self, weights: Sequence[str]) -> None:
        places = [self._places[name] for name in weights]
        self._file.read_whole(weights, [self._memory.bytes[begin:end] for begin, end in places])
