"""Work in a thread that is told of in the kernel's own: widgets are changed by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Event, Thread
from typing import Generic, TypeVar

from flashmem_lab.worker.jobs import Message

T = TypeVar("T")


def teller() -> Callable[[Callable[[], None]], None] | None:
    """What calls a function in this thread's event loop, for other threads; None without a loop.

    The call has the context that holds now. Without it a kernel takes what a widget sends for an
    answer to whatever came in last, and ipykernel 7.4 then drops what the browser replies where
    the subshell of that is gone.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    context = copy_context()

    def tell(call: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call, context=context)

    return tell


class Runner(Generic[T]):
    """Does one piece of work at a time.

    Args:
        hear: told how far it is and what it holds.
        ended: given the future of what ended, once; not after `close`.

    Attributes:
        job: what is under way; None where nothing is.
    """

    def __init__(self, hear: Callable[[Message], None], ended: Callable[[Future[T]], None]) -> None:
        self.job: Future[T] | None = None
        self._hear, self._ended = hear, ended
        self._stop = Event()

    def start(self, work: Callable[[Callable[[Message], None], Callable[[], bool]], T]) -> bool:
        """Calls `work(hear, stop)` in a thread; `stop()` says whether it was cancelled.

        Returns:
            Whether the end will be told; else no event loop runs here, and `wait` tells of it.
        """
        assert self.job is None, "one piece of work at a time"
        job: Future[T] = Future()
        stop = Event()
        self.job, self._stop = job, stop
        tell = teller()

        def heard(message: Message) -> None:
            if tell is not None:
                tell(lambda: self._hear(message) if self.job is job else None)

        def do() -> None:
            try:
                job.set_result(work(heard, stop.is_set))
            except BaseException as error:  # handed to whoever waits or looks
                job.set_exception(error)
            if tell is not None:
                tell(lambda: self._finish(job))

        Thread(target=do, name="flashmem-lab run", daemon=True).start()
        return tell is not None

    def wait(self) -> T | None:
        """Waits for what is under way, and tells of its end; None where nothing is.

        Raises:
            Exception: what the work raised.
        """
        job = self.job
        if job is None:
            return None
        try:
            return job.result()
        finally:
            if job.done():  # else the wait was interrupted, and the work goes on
                self._finish(job)

    def cancel(self) -> None:
        """Asks what is under way to stop; its end is told as any other."""
        self._stop.set()

    def close(self) -> None:
        """Stops what is under way and tells nobody."""
        self.cancel()
        self.job = None

    def _finish(self, job: Future[T]) -> None:
        if job is self.job:
            self.job = None
            self._ended(job)
