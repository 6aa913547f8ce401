"""One call for a burst of requests: a dragged slider asks faster than a plan is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic

from flashmem_lab.garbage import undisturbed


class Throttle:
    """Calls `action` soon after a request, at most once in a while, and always after the last one.

    In a kernel the call comes from its event loop. Between two calls it has time to handle the
    messages that wait, so that only the latest state is acted on. Where no loop runs, each request
    acts at once.

    Args:
        action: takes the state as it is when called; handles its own errors.
        seconds: least time from the end of a call to the next one.
    """

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._ended = -inf

    def request(self) -> None:
        """Asks for a call, soon."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._action()
            return
        if self._timer is None:
            self._timer = loop.call_later(
                max(0.0, self._ended + self._seconds - monotonic()), self.flush
            )

    def flush(self) -> None:
        """Makes the call that was asked for now, if any."""
        if self._timer is not None:
            self.cancel()
            with undisturbed():
                self._action()
            self._ended = monotonic()

    def cancel(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
