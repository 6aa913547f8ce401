"""Disk and transfer lane: served by the disk thread while the main thread computes.

Weights that are at hand already are loaded by the main thread, as soon as they are made: to wake
another thread and to wait for it takes longer than that, and the cores are the device's.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from time import perf_counter_ns

import pyopencl as cl

from flashmem_lab.errors import PlanError
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program.program import Program, Read, Upload
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.recorder import Recorder
from flashmem_lab.runtime.opencl.signals import Signals, Stopped
from flashmem_lab.runtime.opencl.transports import WeightTransport

_WHO = "disk"


class Loader(threading.Thread):
    """Reads chunks in the disk lane's order and uploads them in the transfer lane's order.

    Args:
        program: whose lanes to serve.
        first_run: False leaves out what is loaded once.
        transport: how a chunk reaches its object.
        queue: the one that `transport` uses.
        signals: where the threads wait for each other.
        recorder: takes notes.
    """

    def __init__(
        self,
        program: Program,
        *,
        first_run: bool,
        transport: WeightTransport,
        queue: cl.CommandQueue,
        signals: Signals,
        recorder: Recorder,
    ) -> None:
        super().__init__(name="flashmem-disk", daemon=True)
        self._transport = transport
        self._queue = queue
        self._signals = signals
        self._recorder = recorder
        self._reads: list[Read] = []
        self._uploads: deque[Upload] = deque()
        self._at_hand: dict[str, list[Read | Upload]] = defaultdict(list)
        commands: list[Read | Upload] = [*program.disk, *program.transfer]
        for command in commands:
            if first_run or not command.once:
                if command.weight in transport.at_hand:
                    self._at_hand[command.weight].append(command)
                elif isinstance(command, Read):
                    self._reads.append(command)
                else:
                    self._uploads.append(command)

    def load_at_hand(self, weight: str) -> None:
        """Loads a weight that was just made, if it is at hand; on the calling thread.

        Raises:
            As the transport's methods.
        """
        for command in self._at_hand.get(weight, ()):
            self._read(command) if isinstance(command, Read) else self._upload(command)

    def run(self) -> None:
        """Serves both lanes to their ends, or until either thread gives up."""
        try:
            with translating("loading weights"):
                self._serve()
        except Stopped:
            pass
        except BaseException as error:
            self._signals.fail(error)  # the main thread raises it
        finally:
            self._signals.end(_WHO)

    def _serve(self) -> None:
        self._upload_ready()
        for read in self._reads:
            for needed in read.after:
                self._signals.wait(needed, who=_WHO)
            self._signals.check()
            self._read(read)
            self._upload_ready()
        if self._uploads:
            raise PlanError(
                f"upload {self._uploads[0].id} of {self._uploads[0].weight!r} waits for no read",
                hint="the plan or bundle is damaged: make it anew",
            )

    def _upload_ready(self) -> None:
        """Enqueues the uploads that are next in their lane and whose reads are done."""
        while self._uploads and self._signals.published(self._uploads[0].after):
            self._upload(self._uploads.popleft())

    def _read(self, read: Read) -> None:
        begun_ns = self._transport.read(read)
        if begun_ns is not None:
            self._recorder.moved(read.id, Lane.DISK, "read", read.weight, read.bytes, begun_ns)
        self._signals.publish(read.id)

    def _upload(self, upload: Upload) -> None:
        begun_ns = perf_counter_ns()
        event = self._transport.upload(upload)
        if event is not None:
            self._queue.flush()  # the compute queue may wait for it already
        self._recorder.moved(
            upload.id, Lane.TRANSFER, "upload", upload.weight, upload.bytes, begun_ns, event
        )
        self._signals.publish(upload.id, event)
