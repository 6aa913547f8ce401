"""Copied weights: disk -> pinned slot -> object, or from where they are kept in pinned memory."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from flashmem_lab.errors import PlanError
from flashmem_lab.program.program import PackedSpan, Program, Read, Upload
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.pinned import KeptWeights, map_all, staging_buffer
from flashmem_lab.runtime.weightfile import WeightFiles

_DAMAGED = "the plan or bundle is damaged: make it anew"


class StagingRing:
    """Pinned host memory in slots of equal size, mapped for as long as it lives.

    Args:
        context, queue: where to make and map it.
        size, slot_bytes: of the whole and of a slot; there are size // slot_bytes of them.

    Attributes:
        slots: the mapped memory, shape (slots, slot_bytes).
    """

    def __init__(
        self, context: cl.Context, queue: cl.CommandQueue, size: int, slot_bytes: int
    ) -> None:
        self._buffer = staging_buffer(context, size)
        self._queue = queue
        self._mapped = map_all(queue, self._buffer, rows=size // slot_bytes, row_bytes=slot_bytes)
        self.slots = self._mapped.rows

    def release(self) -> None:
        """Unmaps and releases it; no command may use it any more."""
        self._mapped.unmap(self._queue).wait()
        self._buffer.release()


class CopyTransport:
    """Reads into the next slot of the ring, then copies from it on the transfer queue.

    Nothing is read of weights that are kept in pinned memory: they are copied from there.

    Args:
        program: for the spans.
        file: the packed weights.
        objects: where the weights' objects are found.
        queue: for the copies.
        ring: the slots.
        kept: weights that are copied from elsewhere.
    """

    def __init__(
        self,
        program: Program,
        *,
        file: WeightFiles,
        objects: DeviceObjects,
        queue: cl.CommandQueue,
        ring: StagingRing,
        kept: KeptWeights,
    ) -> None:
        self.at_once = self.at_hand = kept.names
        self._spans: Mapping[str, PackedSpan] = program.spans
        self._kept = kept
        self._file = file
        self._objects = objects
        self._queue = queue
        self._slots = ring.slots
        self._next = 0
        self._filled: dict[tuple[str, int], int] = {}  # slot of each chunk not yet uploaded
        self._busy: dict[int, cl.Event] = {}  # last upload out of each slot

    def created(self, weight: str) -> None:
        """Nothing to do: slots are taken in turn."""

    def load(self, weight: str) -> cl.Event:
        """Enqueues the copy of a weight from where it is kept."""
        memory, begin = self._objects.target(weight)
        used = self._objects.used(weight) or None
        pool, offset = self._kept.place(weight)
        event: cl.Event
        if isinstance(memory, cl.Image):
            event = cl.enqueue_copy(  # type: ignore[call-overload]  # its stubs lack `offset`
                self._queue,
                memory,
                pool,
                offset=offset,
                origin=(0, 0),
                region=(memory.width, memory.height),
                wait_for=used,
            )
        else:
            size = self._spans[weight].bytes
            event = cl.enqueue_copy(
                self._queue,
                memory,
                pool,
                byte_count=size,
                src_offset=offset,
                dst_offset=begin,
                wait_for=used,
            )
        return event

    def read(self, command: Read) -> int:
        """Waits until the next slot is free, then fills it."""
        slot = self._next
        self._next = (slot + 1) % len(self._slots)
        if slot in self._filled.values():
            raise PlanError(
                f"the program fills slot {slot} of the staging ring before it was uploaded",
                hint=_DAMAGED,
            )
        if slot in self._busy:
            self._busy.pop(slot).wait()
        begun_ns = perf_counter_ns()
        rows = self._rows(slot, command)
        self._file.read_rows(command.weight, command.first_row, rows)
        self._filled[command.weight, command.first_row] = slot
        return begun_ns

    def upload(self, command: Upload) -> cl.Event:
        """Enqueues the copy out of the chunk's slot."""
        slot = self._filled.pop((command.weight, command.first_row))
        rows = self._rows(slot, command)
        memory, begin = self._objects.target(command.weight)
        used = self._objects.used(command.weight) or None
        event: cl.Event
        if isinstance(memory, cl.Image):
            event = cl.enqueue_copy(
                self._queue,
                memory,
                rows,
                origin=(0, command.first_row),
                region=(memory.width, command.rows),
                is_blocking=False,
                wait_for=used,
            )
        else:
            event = cl.enqueue_copy(
                self._queue,
                memory,
                rows.reshape(-1),
                dst_offset=begin + command.first_row * rows.shape[1],
                is_blocking=False,
                wait_for=used,
            )
        self._busy[slot] = event
        return event

    def abandon(self) -> None:
        """Slots are the ring's; nothing is left."""

    def _rows(self, slot: int, command: Read | Upload) -> NDArray[np.uint8]:
        row_bytes = self._spans[command.weight].row_bytes
        flat: NDArray[np.uint8] = self._slots[slot, : command.rows * row_bytes]
        return flat.reshape(command.rows, row_bytes)
