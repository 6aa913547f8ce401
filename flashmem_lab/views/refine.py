"""A better plan in the background while a quick one is on the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event, Thread

from flashmem_lab.errors import FlashMemError
from flashmem_lab.plan import Plan
from flashmem_lab.plan.incumbent import Effort
from flashmem_lab.views.running import teller

_SECONDS = 5.0  # an answer that people still wait for
_QUIET = (
    0.25  # s without another plan before one is worth improving: a dragged slider asks for many
)


class Refiner:
    """Solves in a thread, one plan at a time; the last one asked for is the one that is told.

    Where no event loop runs there is nobody to tell later: it solves at once.
    """

    def __init__(self) -> None:
        self._stop = Event()

    def start(self, solve: Callable[[Effort], Plan], done: Callable[[Plan], None]) -> None:
        """Solves and calls `done` in the kernel's thread; what was solved before is dropped."""
        self.cancel()
        self._stop = stop = Event()
        effort = Effort(time_s=_SECONDS, workers=1, should_stop=stop.is_set)
        tell = teller()
        if tell is None:
            done(solve(effort))
            return

        def work() -> None:
            try:
                plan = solve(effort)
            except FlashMemError:
                return  # the quick plan stays; it fails in the same way when it is asked for
            tell(lambda: None if stop.is_set() else done(plan))

        thread = Thread(target=work, name="flashmem-lab solver", daemon=True)
        asyncio.get_running_loop().call_later(
            _QUIET, lambda: None if stop.is_set() else thread.start()
        )

    def cancel(self) -> None:
        """Ends the search under way; its plan is not told."""
        self._stop.set()
