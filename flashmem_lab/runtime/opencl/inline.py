"""Weights that kernels move (`inline`): disk -> slot in unified memory -> a kernel -> object."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from time import perf_counter_ns

import numpy as np
import pyopencl as cl

from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.program.carry import Entry, entries
from flashmem_lab.program.check_carries import carriers_of
from flashmem_lab.program.program import Launch, Move, Program, Read, Upload
from flashmem_lab.runtime.opencl.mapping import Mapped, map_rows
from flashmem_lab.runtime.opencl.objects import DeviceMemory, DeviceObjects
from flashmem_lab.runtime.opencl.signals import Signals
from flashmem_lab.runtime.weightfile import WeightFiles

Argument = DeviceMemory | np.int32
_WHO = "disk"


class SlotRing:
    """Slots that the host fills and kernels read, a buffer each.

    A buffer may not be mapped for writing while a kernel reads it, so each is mapped alone, for
    as long as it is filled.

    Args:
        context: where to make them.
        size: bytes of all of them.
        slot_bytes: of each.

    Attributes:
        slots: the buffers.
    """

    def __init__(self, context: cl.Context, size: int, slot_bytes: int) -> None:
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.ALLOC_HOST_PTR
        self.slots = [cl.Buffer(context, flags, slot_bytes) for _ in range(size // slot_bytes)]

    def release(self) -> None:
        """Releases them; no command may use them any more."""
        while self.slots:
            self.slots.pop().release()


class InlineTransport:
    """Reads into the next slot once a kernel has emptied it, and hands it to the device.

    Args:
        program: what runs.
        first_run: False leaves out what is loaded once.
        file: the packed weights.
        queue: for mapping and unmapping slots.
        ring: the slots.
        signals: tells when the command that empties a slot is enqueued.

    Attributes:
        slots: where each upload of this run lies, by its id.
        unused: a slot for arguments that move nothing.
    """

    at_once: Container[str] = frozenset()
    at_hand: Container[str] = frozenset()

    def __init__(
        self,
        program: Program,
        *,
        first_run: bool,
        file: WeightFiles,
        queue: cl.CommandQueue,
        ring: SlotRing,
        signals: Signals,
    ) -> None:
        self._spans = program.spans
        self._file = file
        self._queue = queue
        self._ring = ring
        self._signals = signals
        reads = [read for read in program.disk if first_run or not read.once]
        uploads = [upload for upload in program.transfer if first_run or not upload.once]
        carriers, count = carriers_of(program), len(ring.slots)
        self._slot = {read.id: at % count for at, read in enumerate(reads)}
        # The command that empties the slot which each read takes.
        self._emptied = {
            read.id: carriers[upload.id]
            for read, upload in zip(reads[count:], uploads, strict=False)
        }
        self._mapped: dict[tuple[str, int], Mapped] = {}
        self.slots = {upload.id: ring.slots[at % count] for at, upload in enumerate(uploads)}
        self.unused = ring.slots[0]

    def created(self, weight: str) -> None:
        """Nothing to do: a kernel writes to the object."""

    def load(self, weight: str) -> None:
        """Never called: nothing is `at_once`."""

    def read(self, command: Read) -> int:
        """Waits until the next slot is free, then fills it."""
        emptied = self._emptied.get(command.id)
        event = None if emptied is None else self._signals.wait(emptied, who=_WHO)
        slot = self._ring.slots[self._slot[command.id]]
        row_bytes = self._spans[command.weight].row_bytes
        mapped = map_rows(
            self._queue,
            slot,
            rows=command.rows,
            row_bytes=row_bytes,
            access=cl.map_flags.WRITE_INVALIDATE_REGION,
            wait_for=[] if event is None else [event],
        )
        self._mapped[command.weight, command.first_row] = mapped
        mapped.ready.wait()
        begun_ns = perf_counter_ns()
        self._file.read_rows(command.weight, command.first_row, mapped.rows)
        return begun_ns

    def upload(self, command: Upload) -> cl.Event:
        """Unmaps the slot: a kernel may read it."""
        return self._mapped.pop((command.weight, command.first_row)).unmap(self._queue)

    def abandon(self) -> None:
        """Unmaps what an early end left mapped."""
        for mapped in self._mapped.values():
            mapped.unmap(self._queue)
        self._mapped.clear()
        self._queue.finish()


class Carrying:
    """The arguments with which kernels of one program carry chunks.

    Args:
        program: whose.
    """

    def __init__(self, program: Program) -> None:
        uploads = {upload.id: upload for upload in program.transfer}
        self._entries = {
            command.id: entries(
                [uploads[at] for at in command.carries], program.objects, program.spans
            )
            for command in program.compute
            if isinstance(command, Launch | Move) and command.carries
        }

    def bytes(self, command: Launch | Move, transport: InlineTransport) -> int:
        """What the command moves in this run."""
        return sum(
            entry.upload.bytes
            for entry in self._entries.get(command.id, ())
            if entry.upload.id in transport.slots
        )

    def arguments(
        self, command: Launch | Move, transport: InlineTransport, objects: DeviceObjects
    ) -> list[Argument]:
        """What follows the command's own arguments; what this run does not read moves nothing."""

        def of(entry: Entry) -> tuple[DeviceMemory, DeviceMemory, int, int]:
            slot, target = transport.slots.get(entry.upload.id), objects[entry.upload.weight]
            if slot is None:
                return transport.unused, target, 0, 0
            return slot, target, entry.first, entry.count

        return _flat(self._entries.get(command.id, ()), of)

    def idle(
        self, command: Launch | Move, of: Callable[[Entry], tuple[DeviceMemory, DeviceMemory]]
    ) -> list[Argument]:
        """Arguments that move nothing.

        Args:
            command: a launch.
            of: a slot and an object that stand in for an entry's.
        """
        return _flat(self._entries.get(command.id, ()), lambda entry: (*of(entry), 0, 0))


def _flat(
    carried: Sequence[Entry],
    of: Callable[[Entry], tuple[DeviceMemory, DeviceMemory, int, int]],
) -> list[Argument]:
    found: list[Argument] = []
    for at in range(CARRIED if carried else 0):
        slot, target, first, count = of(carried[min(at, len(carried) - 1)])
        found += [slot, target, np.int32(first), np.int32(count if at < len(carried) else 0)]
    return found
