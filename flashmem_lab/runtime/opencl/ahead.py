"""Reading ahead: the disk works on while the device has no room for the next weight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate

from flashmem_lab.errors import FlashMemError

AHEAD_BYTES = 32 * 2**20
"""Read and not yet on the device: in the system's cache, as much as it may read ahead by itself for
two files. Disks here take some 10 ms for it, as long as a few layers."""


class ReadAhead:
    """Has weights read before they have room on the device, on a thread of its own.

    Args:
        weights: their names and bytes, in order of use.
        read: has one read; what fails here fails again for whoever brings the weight.
    """

    def __init__(self, weights: Sequence[tuple[str, int]], read: Callable[[str], None]) -> None:
        self._weights = weights
        self._read = read
        self._before = list(accumulate((size for _, size in weights), initial=0))
        self._brought = 0  # weights
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="flashmem-ahead", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def brought(self) -> None:
        """Hears that the next weight is on the device."""
        with self._changed:
            self._brought += 1
            self._changed.notify()

    def stop(self) -> None:
        """Ends, once what is being read is read."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        for at, (weight, _) in enumerate(self._weights):
            with self._changed:
                while not self._stopped and not self._within(at):
                    self._changed.wait()
                if self._stopped:
                    return
                if at < self._brought:
                    continue
            try:
                self._read(weight)
            except FlashMemError:
                return

    def _within(self, at: int) -> bool:
        """Whether a weight may be read by now."""
        ahead = self._before[at + 1] - self._before[min(at, self._brought)]
        return at <= self._brought or ahead <= AHEAD_BYTES
