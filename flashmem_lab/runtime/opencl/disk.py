"""Disk and transfer lane: served by the disk thread while the main thread computes.

Weights that lie in memory already are loaded by the main thread, as soon as they are made: to wake
another thread and to wait for it takes longer than that, and the cores are the device's. So are
those that are brought whole from the disk, once another thread has read them (`ReadAhead`).
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import pyopencl as cl

from flashmem_lab.errors import PlanError
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program.program import Program, Read, Upload
from flashmem_lab.runtime.opencl.ahead import ReadAhead
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.recorder import Recorder
from flashmem_lab.runtime.opencl.signals import Signals, Stopped
from flashmem_lab.runtime.opencl.transports import WeightTransport

_WHO = "disk"


@dataclass(frozen=True, slots=True)
class Whole:
    """A weight that is loaded at once.

    Attributes:
        first: its first Read.
        bytes: of all its Reads.
        uploads: ids of its Uploads.
    """

    first: Read
    bytes: int
    uploads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lanes:
    """What a run loads.

    Attributes:
        reads: those of the disk thread, in order.
        uploads: those of the disk thread, in order.
        wholes: the weights that are loaded at once, by name, in the order of their first reads.
        ahead: those of them that are read ahead.
    """

    reads: tuple[Read, ...]
    uploads: tuple[Upload, ...]
    wholes: Mapping[str, Whole]
    ahead: tuple[Whole, ...]

    @classmethod
    def of(cls, program: Program, transport: WeightTransport, *, first_run: bool) -> Lanes:
        """Those of a run.

        Args:
            program: whose lanes.
            transport: says what is loaded at once, and what is at hand.
            first_run: False leaves out what is loaded once.
        """
        firsts: dict[str, Read] = {}
        sizes: dict[str, int] = {}
        reads = []
        for read in program.disk:
            if read.once and not first_run:
                continue
            if read.weight in transport.at_once:
                sizes[read.weight] = sizes.get(read.weight, 0) + read.bytes
                firsts.setdefault(read.weight, read)
            else:
                reads.append(read)
        uploads = [one for one in program.transfer if first_run or not one.once]
        ids: dict[str, list[int]] = defaultdict(list)
        for one in uploads:
            ids[one.weight].append(one.id)
        wholes = {name: Whole(read, sizes[name], tuple(ids[name])) for name, read in firsts.items()}
        apart = tuple(one for one in uploads if one.weight not in firsts)
        ahead = tuple(whole for name, whole in wholes.items() if name not in transport.at_hand)
        return cls(tuple(reads), apart, wholes, ahead)


class Loader:
    """Reads chunks in the disk lane's order and uploads them in the transfer lane's order.

    On a thread of its own, but for weights that are loaded at once.

    Args:
        lanes: what to load.
        transport: how a chunk reaches its object.
        ahead: reads those of `lanes`, if there are any.
        queue: the one that `transport` uses.
        signals: where the threads wait for each other.
        recorder: takes notes.
    """

    def __init__(
        self,
        lanes: Lanes,
        *,
        transport: WeightTransport,
        ahead: ReadAhead | None,
        queue: cl.CommandQueue,
        signals: Signals,
        recorder: Recorder,
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._signals = signals
        self._recorder = recorder
        self._reads = lanes.reads
        self._uploads = deque(lanes.uploads)
        self._wholes = lanes.wholes
        self._ahead = ahead
        self._awaited = deque(lanes.ahead)  # not loaded yet
        self._made: set[str] = set()  # those of them that have room
        self._thread: threading.Thread | None = None
        if lanes.reads or lanes.uploads:
            self._thread = threading.Thread(target=self._run, name="flashmem-disk", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        if self._thread is not None:
            self._thread.start()
        else:
            self._signals.end(_WHO)

    def join(self) -> None:
        """Waits until the thread has ended; it must have been started."""
        if self._thread is not None:
            self._thread.join()

    def made(self, weight: str) -> None:
        """Loads a weight that was just made, on the calling thread, if it lies in memory.

        Raises:
            As the transport's methods.
        """
        if weight not in self._wholes:
            return
        if weight in self._transport.at_hand:
            self._load(self._wholes[weight], perf_counter_ns())
        else:
            self._made.add(weight)
            self.load_read()

    def load_read(self) -> None:
        """Loads those that were made and have been read since.

        Raises:
            As the transport's methods.
        """
        while self._awaited and self._awaited[0].first.weight in self._made:
            if self._ahead is None or not self._ahead.has_read():
                return
            self._load_next()

    def owes(self, weight: str) -> bool:
        """Whether a weight was made and waits for the disk."""
        return weight in self._made

    def load_until(self, weight: str) -> None:
        """Loads a weight that was made, and what is read before it, waiting for the disk.

        Raises:
            As the transport's methods.
        """
        while self.owes(weight):
            self._load_next()

    def _load_next(self) -> None:
        begun_ns = perf_counter_ns()
        whole = self._awaited.popleft()
        assert self._ahead is not None, "weights that are read ahead"
        self._ahead.wait()
        self._load(whole, begun_ns)
        self._ahead.brought()
        self._made.discard(whole.first.weight)

    def _run(self) -> None:
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

    def _load(self, whole: Whole, begun_ns: int) -> None:
        """Loads a weight at once: where nothing is copied, it is the device's once it is read.

        Args:
            whole: the weight.
            begun_ns: since when that is under way, host ns.
        """
        first, last, weight = whole.first.id, whole.uploads[-1], whole.first.weight
        event = self._transport.load(weight)
        if event is None:
            self._recorder.loaded(first, last, weight, whole.bytes, begun_ns)
        else:
            self._queue.flush()  # the compute queue may wait for it already
            self._recorder.moved(
                last, Lane.TRANSFER, "upload", weight, whole.bytes, begun_ns, event
            )
        for upload in whole.uploads:
            self._signals.publish(upload, event)

    def _upload_ready(self) -> None:
        """Enqueues the uploads that are next in their lane and whose reads are done."""
        while self._uploads and self._signals.published(self._uploads[0].after):
            self._upload(self._uploads.popleft())

    def _read(self, read: Read) -> None:
        begun_ns = self._transport.read(read)
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
