"""One call for a burst of requests: a dragged slider asks faster than a plan is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Throttle:
    """Calls `action` at most once in `seconds`, and always after the last request.

    In a kernel the call comes from its event loop, so that messages that wait are handled first
    and only the latest state is acted on. Where no loop runs, each request acts at once.

    Args:
        action: takes the state as it is when called; handles its own errors.
        seconds: least time between a request and the call that serves it.
    """

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def request(self) -> None:
        """Asks for a call, soon."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._action()
            return
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self.flush)

    def flush(self) -> None:
        """Makes the call that was asked for now, if any."""
        if self._timer is not None:
            self.cancel()
            self._action()

    def cancel(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
