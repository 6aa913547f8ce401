"""Reading ahead: the disk works on while the device has no room for the next weight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flashmem_lab.errors import FlashMemError
from flashmem_lab.runtime.filemap import PIECE

AHEAD_BYTES = 32 * 2**20
"""Read and not yet on the device: in the system's cache, twice what it may read ahead by itself.
Disks here take some 10 ms for it, as long as a few layers."""


class ReadAhead:
    """Has weights read before they have room on the device, on a thread of its own.

    Args:
        weights: their names and bytes, in order of use.
        read: has bytes of a weight read: name, first of them, how many. What fails here fails again
            for whoever brings the weight.
    """

    def __init__(
        self, weights: Sequence[tuple[str, int]], read: Callable[[str, int, int], None]
    ) -> None:
        self._read = read
        # Pieces to read: number of the weight, its name, first byte, size, and bytes of all before.
        self._parts: list[tuple[int, str, int, int, int]] = []
        self._before: list[int] = []  # bytes before each weight
        before = 0
        for at, (name, size) in enumerate(weights):
            self._before.append(before)
            for first in range(0, size, PIECE):
                part = min(PIECE, size - first)
                self._parts.append((at, name, first, part, before))
                before += part
        self._before.append(before)
        self._next = 0
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
        while (part := self._take()) is not None:
            try:
                self._read(*part)
            except FlashMemError:
                return

    def _take(self) -> tuple[str, int, int] | None:
        """The part to read next, once it may be read; None if there is none."""
        with self._changed:
            while not self._stopped and self._next < len(self._parts):
                at, name, first, size, before = self._parts[self._next]
                if at < self._brought:
                    self._next += 1
                elif before - self._before[self._brought] < AHEAD_BYTES:
                    self._next += 1
                    return name, first, size
                else:
                    self._changed.wait()
            return None
