"""How a chunk gets from the disk to the device: over a pinned ring, mapped, or as it lies."""

from __future__ import annotations

from collections.abc import Container, Mapping
from time import perf_counter_ns
from typing import Protocol

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from flashmem_lab.errors import PlanError
from flashmem_lab.program.program import PackedSpan, Program, Read, Upload
from flashmem_lab.runtime.opencl.inplace import InPlace
from flashmem_lab.runtime.opencl.mapping import Mapped, map_rows
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.weightfile import WeightFiles

_DAMAGED = "the plan or bundle is damaged: make it anew"


class WeightTransport(Protocol):
    """How the commands of disk and transfer lane are done.

    Attributes:
        at_once: weights that the first Read of them brings whole.
        at_hand: those of them whose bytes are in memory: loading them is not worth another thread.
    """

    @property
    def at_once(self) -> Container[str]:
        """Weights that the first Read of them brings whole, and that need no Upload."""
        ...

    @property
    def at_hand(self) -> Container[str]:
        """Those of them whose bytes are in memory: loading them is not worth another thread."""
        ...

    def created(self, weight: str) -> None:
        """Hears from the main thread that a weight's object exists, before any read of it."""
        ...

    def read(self, command: Read) -> int:
        """Brings a chunk to host memory, checked; returns when the disk began, host ns."""
        ...

    def upload(self, command: Upload) -> cl.Event | None:
        """Moves what was read into its object, without waiting; None where that was nothing."""
        ...

    def abandon(self) -> None:
        """Gives up what an early end left, when the disk thread is gone."""
        ...


# --- copy: disk -> pinned slot -> object ---------------------------------------------------


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
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
        self._buffer = cl.Buffer(context, flags, size)
        self._queue = queue
        self._mapped = map_rows(
            queue,
            self._buffer,
            rows=size // slot_bytes,
            row_bytes=slot_bytes,
            access=cl.map_flags.READ | cl.map_flags.WRITE,
        )
        self._mapped.ready.wait()
        self.slots = self._mapped.rows

    def release(self) -> None:
        """Unmaps and releases it; no command may use it any more."""
        self._mapped.unmap(self._queue).wait()
        self._buffer.release()


class CopyTransport:
    """Reads into the next slot of the ring, then copies from it on the transfer queue.

    Args:
        program: for the spans.
        file: the packed weights.
        objects: where the weights' objects are found.
        queue: for the copies.
        ring: the slots.
    """

    at_once: Container[str] = frozenset()
    at_hand: Container[str] = frozenset()

    def __init__(
        self,
        program: Program,
        *,
        file: WeightFiles,
        objects: DeviceObjects,
        queue: cl.CommandQueue,
        ring: StagingRing,
    ) -> None:
        self._spans = program.spans
        self._file = file
        self._objects = objects
        self._queue = queue
        self._slots = ring.slots
        self._next = 0
        self._filled: dict[tuple[str, int], int] = {}  # slot of each chunk not yet uploaded
        self._busy: dict[int, cl.Event] = {}  # last upload out of each slot

    def created(self, weight: str) -> None:
        """Nothing to do: slots are taken in turn."""

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
        memory = self._objects[command.weight]
        used = self._objects.used(command.weight)
        rows = self._rows(slot, command)
        event: cl.Event
        if isinstance(memory, cl.Image):
            event = cl.enqueue_copy(
                self._queue,
                memory,
                rows,
                origin=(0, command.first_row),
                region=(memory.width, command.rows),
                is_blocking=False,
                wait_for=used or None,
            )
        else:
            offset = command.first_row * self._spans[command.weight].row_bytes
            event = cl.enqueue_copy(
                self._queue,
                memory,
                rows.reshape(-1),
                dst_offset=offset,
                is_blocking=False,
                wait_for=used or None,
            )
        self._busy[slot] = event
        return event

    def abandon(self) -> None:
        """Slots are the ring's; nothing is left."""

    def _rows(self, slot: int, command: Read | Upload) -> NDArray[np.uint8]:
        row_bytes = self._spans[command.weight].row_bytes
        flat: NDArray[np.uint8] = self._slots[slot, : command.rows * row_bytes]
        return flat.reshape(command.rows, row_bytes)


# --- map: disk -> object ------------------------------------------------------------------


class MapTransport:
    """Maps an object once, reads every chunk of it straight into place, unmaps it.

    A mapping is a command too, and on a CPU device it waits for a worker that no kernel holds.
    So it is enqueued as soon as the object exists, before the kernels of that step.

    Args:
        program: for the spans.
        file: the packed weights.
        objects: where the weights' objects are found.
        queue: for mapping and unmapping.
    """

    at_once: Container[str] = frozenset()
    at_hand: Container[str] = frozenset()

    def __init__(
        self,
        program: Program,
        *,
        file: WeightFiles,
        objects: DeviceObjects,
        queue: cl.CommandQueue,
    ) -> None:
        self._spans: Mapping[str, PackedSpan] = program.spans
        self._file = file
        self._objects = objects
        self._queue = queue
        self._mapped: dict[str, Mapped] = {}

    def created(self, weight: str) -> None:
        """Enqueues the mapping."""
        span = self._spans[weight]
        self._mapped[weight] = map_rows(
            self._queue,
            self._objects[weight],
            rows=span.bytes // span.row_bytes,
            row_bytes=span.row_bytes,
            access=cl.map_flags.WRITE_INVALIDATE_REGION,
            wait_for=self._objects.used(weight),
        )
        self._queue.flush()

    def read(self, command: Read) -> int:
        """Waits for the mapping and reads into it."""
        mapped = self._mapped[command.weight]
        mapped.ready.wait()
        begun_ns = perf_counter_ns()
        rows = mapped.rows[command.first_row : command.first_row + command.rows]
        self._file.read_rows(command.weight, command.first_row, rows)
        return begun_ns

    def upload(self, command: Upload) -> cl.Event:
        """Unmaps the weight: its bytes are the device's from then on."""
        return self._mapped.pop(command.weight).unmap(self._queue)

    def abandon(self) -> None:
        """Unmaps what an early end left mapped."""
        for mapped in self._mapped.values():
            mapped.unmap(self._queue)
        self._mapped.clear()
        self._queue.finish()


# --- in place: the file in memory is the object ---------------------------------------------


class InPlaceTransport:
    """Makes weights present where the device uses them; those that lie in images are mapped.

    Args:
        in_place: those that it uses where they lie.
        others: for the rest.
    """

    def __init__(self, in_place: InPlace, others: MapTransport) -> None:
        self.at_once, self.at_hand = in_place.at_once, in_place.at_hand
        self._in_place = in_place
        self._others = others

    def created(self, weight: str) -> None:
        """Nothing to do but for the others."""
        if weight not in self._in_place:
            self._others.created(weight)

    def read(self, command: Read) -> int:
        """Brings the chunk's pages, or those of the whole weight."""
        if command.weight not in self._in_place:
            return self._others.read(command)
        begun_ns = perf_counter_ns()
        if command.weight in self.at_once:
            self._in_place.bring_sound(command.weight)
        else:
            self._in_place.bring(command.weight, command.first_row, command.rows)
        return begun_ns

    def upload(self, command: Upload) -> cl.Event | None:
        """Nothing to do but for the others."""
        if command.weight in self._in_place:
            return None
        return self._others.upload(command)

    def abandon(self) -> None:
        """Unmaps what of the others an early end left mapped."""
        self._others.abandon()
