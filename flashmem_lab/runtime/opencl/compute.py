"""The compute lane: launches enqueued as early as their memory and weights allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns

import numpy as np
import pyopencl as cl

from flashmem_lab.lower.layer import RowFetch
from flashmem_lab.program.program import (
    ComputeCommand,
    HostStep,
    Launch,
    Move,
    Program,
    WriteInput,
)
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.host import HostSide
from flashmem_lab.runtime.opencl.inline import Argument, Carrying, InlineTransport
from flashmem_lab.runtime.opencl.landings import Landings
from flashmem_lab.runtime.opencl.launches import Launches
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.recorder import Recorder
from flashmem_lab.runtime.opencl.signals import Signals
from flashmem_lab.runtime.opencl.stretched import OneByOne, Stretched
from flashmem_lab.runtime.opencl.views import read_view, write_view
from flashmem_lab.runtime.stretches import Step, Stretch

_WHO = "main"


class ComputeLane:
    """Walks program.compute in order on an in-order queue; used by the main thread alone.

    Args:
        program: whose lane it is.
        steps: what this run does of it.
        launches: those of the program, prepared.
        stretched: its stretches, ready.
        carrying: what kernels move.
        inline: from where they move it; None where another queue moves all.
        queue: the compute queue.
        objects: where arguments are found.
        host: runs host steps.
        inputs: the user's arrays, checked.
        landings: where outputs arrive.
        signals: tells which allocations and uploads happened.
        before_wait: called with the id of what is waited for next.
        recorder: takes notes.
        progress: called with the number of layers enqueued and of all.

    Attributes:
        outputs: what ReadOutput reads, by port name; valid once the queue is finished.
    """

    def __init__(
        self,
        program: Program,
        steps: Sequence[Step],
        *,
        launches: Launches,
        stretched: Stretched,
        carrying: Carrying,
        inline: InlineTransport | None,
        queue: cl.CommandQueue,
        objects: DeviceObjects,
        host: HostSide,
        inputs: Mapping[str, np.ndarray],
        landings: Landings,
        signals: Signals,
        before_wait: Callable[[int], None],
        recorder: Recorder,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.outputs: dict[str, np.ndarray] = {}
        self._steps = steps
        self._layers = len(program.layers)
        self._launches = launches
        self._stretched = stretched
        self._carrying = carrying
        self._inline = inline
        self._queue = queue
        self._objects = objects
        self._host = host
        self._inputs = inputs
        self._landings = landings
        self._signals = signals
        self._before_wait = before_wait
        self._recorder = recorder
        self._progress = progress
        self._next = 0
        self._events: dict[int, cl.Event | None] = {}
        self._layer = -1

    def advance(self) -> None:
        """Enqueues every command whose turn it is and whose memory and weights are on their way."""
        begun = self._next
        while self._next < len(self._steps):
            if not self._signals.published(self._steps[self._next].after):
                break
            self._do(self._steps[self._next])
        if self._next > begun:
            self._queue.flush()

    def advance_through(self, command: int) -> None:
        """Enqueues up to and with `command`, waiting for whatever its turn needs.

        Args:
            command: of no stretch, or one behind which a streamed weight ends.

        Raises:
            Stopped: the disk thread failed.
            PlanError: what it needs will never come.
        """
        while command not in self._events and self._next < len(self._steps):
            self._do_awaited(self._steps[self._next])
        self._queue.flush()

    def advance_to_end(self) -> None:
        """Enqueues the rest of the lane, waiting for whatever its turn needs.

        Raises:
            As `advance_through`.
        """
        while self._next < len(self._steps):
            self._do_awaited(self._steps[self._next])
        self._queue.flush()

    def event(self, command: int) -> cl.Event | None:
        """The event of a command that was enqueued; None for what is over."""
        return self._events[command]

    def _do_awaited(self, step: Step) -> None:
        if not self._signals.published(step.after):
            self._queue.flush()  # what was enqueued runs meanwhile
        for needed in step.after:
            self._before_wait(needed)
            self._signals.wait(needed, who=_WHO)
        self._do(step)

    def _do(self, step: Step) -> None:
        if isinstance(step, Stretch):
            done = self._stretched.enqueue(step, self._pending(step))
            self._recorder.stretched(done)
            for at in step.ending:
                assert isinstance(done, OneByOne), "where a weight ends nothing is replayed"
                self._events[step.launches[at].id] = done.events[at]
        else:
            self._do_alone(step)
        self._next += 1
        if self._progress is not None and step.layer != self._layer:
            self._layer = step.layer
            self._progress(step.layer + 1, self._layers)

    def _do_alone(self, command: ComputeCommand) -> None:
        with translating(f"running {command.name!r}"):
            event = self._run(command)
        self._events[command.id] = event
        # For this lane alone the queue's order would do; the disk waits for what empties a slot.
        self._signals.publish(command.id, event if isinstance(command, Launch | Move) else None)

    def _run(self, command: ComputeCommand) -> cl.Event | None:
        """Enqueues a launch or a transfer, or runs on the host; returns the event of its end."""
        pending = self._pending(command)
        begun_ns = perf_counter_ns()
        if isinstance(command, Launch | Move):
            event = self._launch(command, pending)
            kind = "launch" if isinstance(command, Launch) else "upload"
            size = self._carrying.bytes(command, self._inline) if self._inline else 0
        else:
            if pending:
                cl.wait_for_events(pending)
            if isinstance(command, HostStep):
                kind = "rows" if isinstance(command.work, RowFetch) else "host"
                self._queue.finish()  # so that its time is its own
                begun_ns = perf_counter_ns()
                size, written = self._host.run(command)
                self._recorder.computed(
                    command.id, kind, command.name, command.layer, size, begun_ns, None
                )
                return written
            if isinstance(command, WriteInput):
                array, begin = self._inputs[command.name], self._objects.begin(command.view.ref)
                memory = self._objects.buffer(command.view.ref)
                event = write_view(self._queue, memory, command.view, array, begin=begin)
                kind, size = "write-input", array.nbytes
            else:
                memory = self._objects.buffer(command.view.ref)
                array, event = read_view(
                    self._queue,
                    memory,
                    command.view,
                    self._landings.at(command.name, command.view),
                    blocking=False,
                    begin=self._objects.begin(command.view.ref),
                )
                self.outputs[command.name] = array
                kind, size = "read-output", array.nbytes
        self._recorder.computed(
            command.id, kind, command.name, command.layer, size, begun_ns, event
        )
        return event

    def _pending(self, step: Step) -> list[cl.Event]:
        """What a step waits for on the device."""
        events = [event for one in step.after if (event := self._signals.event(one)) is not None]
        # Chunks that are copied at once have the same one.
        return list(dict.fromkeys(events)) if len(events) > 1 else events

    def _launch(self, command: Launch | Move, pending: list[cl.Event]) -> cl.Event:
        more: list[Argument] = []
        if self._inline is not None:
            more = self._carrying.arguments(command, self._inline, self._objects)
        return self._launches.enqueue(self._queue, command, self._objects, pending, more)
