"""Stretches of launches made ready once: enqueued one by one in a loop, or replayed together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter_ns
from typing import NamedTuple

import pyopencl as cl

from flashmem_lab.runtime.opencl.commandbuffer import CommandBuffer, CommandBuffers, Launched
from flashmem_lab.runtime.opencl.errors import explain, translating
from flashmem_lab.runtime.opencl.launches import Launches
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.stretches import Stretch

GATED = 2
"""Launches that an idle device is given at once. PoCL wakes its workers for each command that can
begin, and they sleep again behind a small kernel: of 2,000 small layers at 30 %, 58 ms a run became
51 (PoCL 3.1, 2 cores, 2026-11); kernels of 0.15 ms take the same either way."""


class OneByOne(NamedTuple):
    """A stretch that was enqueued in a loop.

    Attributes:
        stretch: which.
        moments_ns: host time before each launch was enqueued, and behind the last one.
        events: of each launch.
    """

    stretch: Stretch
    moments_ns: tuple[int, ...]
    events: tuple[cl.Event, ...]


class Replayed(NamedTuple):
    """A stretch that was replayed.

    Attributes:
        stretch: which.
        begun_ns, end_ns: host time before and behind the call.
        before: event of a marker in front of it. When the device begins, the event of a replay does
            not tell: of 2,000 launches it spans the last one alone (PoCL 3.1, Intel's runtime).
        event: of all of it.
    """

    stretch: Stretch
    begun_ns: int
    end_ns: int
    before: cl.Event
    event: cl.Event


class Stretched:
    """The stretches of one program's later runs.

    Args:
        launches: those of the program.
        queue: the compute queue.
    """

    def __init__(self, launches: Launches, queue: cl.CommandQueue) -> None:
        self._launches = launches
        self._queue = queue
        self._ready: dict[int, tuple[Stretch, tuple[Launched, ...]]] = {}
        self._recorded: dict[int, CommandBuffer] = {}

    @property
    def recorded(self) -> int:
        """How many of them are replayed."""
        return len(self._recorded)

    def make_ready(self, stretches: Iterable[Stretch], objects: DeviceObjects) -> None:
        """Gives each launch a kernel object with its arguments; they must not change any more.

        Raises:
            DeviceError: the device refuses one.
        """
        for stretch in stretches:
            with translating(f"preparing {stretch.name}"):
                self._ready[stretch.id] = stretch, self._launches.ready(stretch.launches, objects)

    def record(self) -> None:
        """Records those that use what lasts, where the device can; the others go on one by one.

        Of a replay nothing tells when the launch is over behind which a streamed weight ends.
        """
        buffers = CommandBuffers.on(self._queue)
        if buffers is None:
            return
        for stretch, launched in self._ready.values():
            recorded = buffers.record(launched) if stretch.lasting else None
            if recorded is not None:
                self._recorded[stretch.id] = recorded

    def enqueue(self, stretch: Stretch, wait_for: Sequence[cl.Event]) -> OneByOne | Replayed:
        """Enqueues a stretch that is ready.

        Args:
            stretch: which.
            wait_for: what its first launch waits for.

        Raises:
            DeviceError: the device refuses one of its launches.
        """
        recorded = self._recorded.get(stretch.id)
        if recorded is not None:
            begun_ns = perf_counter_ns()
            with translating(f"marking the start of {stretch.name}"):
                before = cl.enqueue_marker(self._queue)
            event = recorded.enqueue()
            if event is not None:
                return Replayed(stretch, begun_ns, perf_counter_ns(), before, event)
            self._recorded.pop(stretch.id).release()  # what is wrong shows launch by launch
        return self._one_by_one(stretch, wait_for)

    def release(self) -> None:
        """Releases kernels and recordings; none may be running."""
        self._ready.clear()
        while self._recorded:
            self._recorded.popitem()[1].release()

    def _one_by_one(self, stretch: Stretch, wait_for: Sequence[cl.Event]) -> OneByOne:
        queue, now, enqueue = self._queue, perf_counter_ns, cl.enqueue_nd_range_kernel
        moments_ns, events = [now()], []
        # Where the host itself has brought the weight, the device has run out of work by now.
        gate = cl.UserEvent(queue.context) if stretch.after and not wait_for else None
        waits = [gate] if gate is not None else wait_for or None
        try:
            for kernel, global_size, local_size in self._ready[stretch.id][1]:
                events.append(enqueue(queue, kernel, global_size, local_size, None, waits))
                waits = None
                moments_ns.append(now())
                if gate is not None and len(events) == GATED:
                    gate.set_status(cl.command_execution_status.COMPLETE)
                    gate, moments_ns[1:] = None, [now()] * GATED
        except cl.Error as error:
            failed = stretch.launches[len(events)]
            raise explain(error, f"running {failed.name!r}") from error
        finally:
            if gate is not None:
                # Else what waits for it would never end.
                gate.set_status(cl.command_execution_status.COMPLETE)
        return OneByOne(stretch, tuple(moments_ns), tuple(events))
