"""The child's side: does one job after another, and says how far it is and what it holds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from flashmem_lab.errors import FlashMemError
from flashmem_lab.worker.jobs import Done, Failed, Held, Job, Quit, Step

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.runtime.base import Runtime

_SECONDS = 0.1  # between two words on memory, and on progress: as often as people can read
_ASK_SECONDS = 0.02  # between two looks for whether the job is still wanted


def main(descriptor: int) -> None:
    """Does what comes in at a socket until it is closed."""
    # What the parent ends leaves through `finally`, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Connection(descriptor) as connection:
        desk = _Desk(connection)
        while True:
            try:
                job: Job | Quit = connection.recv()
            except EOFError:
                return  # the parent is gone, or has no more work
            if not isinstance(job, Quit):  # else it is of a job that was done by then
                desk.send(desk.done(job))


class _Desk:
    """See `Desk`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._runtimes: dict[str, Runtime] = {}
        self._told = self._asked = 0.0
        self._stopped = False

    def done(self, job: Job) -> Done | Failed:
        """Does a job; what it raises is an answer too."""
        self._stopped = False
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watch.start()
        try:
            return Done(job.do(self))
        except FlashMemError as error:
            return Failed(error)
        except Exception as error:  # a defect; the parent shows its words, the log has the rest
            sys.excepthook(type(error), error, error.__traceback__)
            return Failed(RuntimeError(f"{type(error).__name__}: {error}"))
        finally:
            ended.set()
            watch.join()

    def send(self, message: object) -> None:
        """Sends a message; from any thread. Without anybody to hear it this process ends."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(1)  # from whichever thread: the other one may be in a driver for long

    def runtime(self, device: DeviceSpec) -> tuple[Runtime, float]:
        """See `Desk.runtime`."""
        from flashmem_lab.devices import open_runtime

        began = perf_counter()
        if device.id not in self._runtimes:
            self._runtimes[device.id] = open_runtime(device)
        return self._runtimes[device.id], (perf_counter() - began) * 1e3

    def tell(self, what: str, done: int, total: int) -> None:
        """See `Desk.tell`; the runtime reports every layer."""
        now = monotonic()
        if now >= self._told + _SECONDS:
            self._told = now
            self.send(Step(what, done, total))

    def stopped(self) -> bool:
        """See `Desk.stopped`; a solver asks thousands of times a second."""
        now = monotonic()
        if not self._stopped and now >= self._asked + _ASK_SECONDS:
            self._asked = now
            self._stopped = self._connection.poll()  # while a job is done nothing else is sent
        return self._stopped

    def _watch(self, ended: threading.Event) -> None:
        from flashmem_lab.prepared import resident_bytes

        while not ended.wait(_SECONDS):
            held: dict[str, int] = {}
            for runtime in list(self._runtimes.values()):
                for pool, size in runtime.held_bytes().items():
                    held[pool] = held.get(pool, 0) + size
            self.send(Held(held, resident_bytes()))
