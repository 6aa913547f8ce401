"""How a chunk gets from the disk to the device: mapped, or as it lies; copies: `copying`."""

from __future__ import annotations

from collections.abc import Container, Mapping
from time import perf_counter_ns
from typing import Protocol

import pyopencl as cl

from flashmem_lab.program.program import PackedSpan, Program, Read, Upload
from flashmem_lab.runtime.opencl.inplace import InPlace
from flashmem_lab.runtime.opencl.mapping import Mapped, map_rows
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.weightfile import WeightFiles


class WeightTransport(Protocol):
    """How the commands of disk and transfer lane are done.

    Attributes:
        at_once: weights that `load` brings whole, in place of their Reads and Uploads.
        at_hand: those of them whose bytes are in memory: nothing is read ahead of loading them.
    """

    @property
    def at_once(self) -> Container[str]:
        """Weights that `load` brings whole, in place of their Reads and Uploads."""
        ...

    @property
    def at_hand(self) -> Container[str]:
        """Those of them whose bytes are in memory: nothing is read ahead of loading them."""
        ...

    def created(self, weight: str) -> None:
        """Hears from the main thread that a weight's object exists, before any read of it."""
        ...

    def load(self, weight: str) -> cl.Event | None:
        """Brings one of `at_once` to its object; the event of its copy, None if it was read."""
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

    def load(self, weight: str) -> None:
        """Never called: nothing is `at_once`."""

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
        """Whoever holds it hears of it."""
        if weight in self._in_place:
            self._in_place.created(weight)
        else:
            self._others.created(weight)

    def load(self, weight: str) -> None:
        """Brings the whole weight."""
        self._in_place.bring_whole(weight)

    def read(self, command: Read) -> int:
        """Brings the chunk."""
        if command.weight not in self._in_place:
            return self._others.read(command)
        begun_ns = perf_counter_ns()
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
