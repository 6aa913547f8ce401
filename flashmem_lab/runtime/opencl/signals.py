"""What has happened, across the two threads of a run: commands done or enqueued, failures."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

import pyopencl as cl

from flashmem_lab.errors import PlanError


class Stopped(Exception):
    """The other thread failed or was interrupted; it carries the reason, this one only ends."""


class Signals:
    """Commands that are done (event None) or enqueued (an event to wait for), by command id.

    Two threads wait here for each other: the main thread for uploads, the disk thread for
    allocations. If both wait, no one is left to wake them, and a damaged program that would
    hang is refused instead.

    Most commands are published while nobody waits for them, so that takes no lock: who waits says
    so before it looks, and who publishes looks who waits afterwards.

    Args:
        done: ids of what earlier runs did for good.

    Attributes:
        error: what the disk thread failed with.
    """

    def __init__(self, done: Collection[int] = frozenset()) -> None:
        self._changed = threading.Condition()
        self._done = done
        self._events: dict[int, cl.Event | None] = {}
        self._waiting: dict[str, int] = {}
        self._ended: set[str] = set()
        self._stopped = False
        self.error: BaseException | None = None

    def publish(self, command: int, event: cl.Event | None = None) -> None:
        """Says that `command` is done, or enqueued with `event`."""
        self._events[command] = event
        if self._waiting:
            with self._changed:
                if command in self._waiting.values():  # to wake a thread costs more than the rest
                    self._changed.notify_all()

    def published(self, commands: Iterable[int]) -> bool:
        """Whether all of `commands` are done or enqueued."""
        events, done = self._events, self._done
        for command in commands:  # noqa: SIM110 - a generator would take twice as long
            if command not in events and command not in done:
                return False
        return True

    def event(self, command: int) -> cl.Event | None:
        """The event of a published command; None once it is done."""
        return self._events.get(command)

    def wait(self, command: int, *, who: str) -> cl.Event | None:
        """Waits until `command` is published and returns its event.

        Args:
            command: id.
            who: "main" or "disk".

        Raises:
            Stopped: the run is being given up.
            PlanError: the other thread waits too, or has ended: the command will never come.
        """
        if self.published((command,)):  # as most are: no lock
            return self._events.get(command)
        with self._changed:
            self._waiting[who] = command
            self._changed.notify_all()
            try:
                while True:
                    if self._stopped:
                        raise Stopped
                    if self.published([command]):
                        return self._events.get(command)
                    if self._hopeless(who):
                        raise PlanError(
                            f"command {command} of the program waits for one that waits for it",
                            hint="the plan or bundle is damaged: make it anew",
                        )
                    self._changed.wait()
            finally:
                del self._waiting[who]

    def check(self) -> None:
        """Ends this thread's work if the other one failed.

        Raises:
            Stopped: it did.
        """
        if self._stopped:
            raise Stopped

    def fail(self, error: BaseException) -> None:
        """Keeps the disk thread's error for the main thread and wakes it."""
        with self._changed:
            self.error = error
            self._stopped = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Makes the disk thread end at its next step."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def end(self, who: str) -> None:
        """Says that a thread has no more commands."""
        with self._changed:
            self._ended.add(who)
            self._changed.notify_all()

    def _hopeless(self, who: str) -> bool:
        others = {name: c for name, c in self._waiting.items() if name != who}
        blocked = any(not self.published([command]) for command in others.values())
        return blocked or any(name != who for name in self._ended)
