"""Reading ahead: the disk works on while the device has no room for the next weight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate

from flashmem_lab.errors import FlashMemError
from flashmem_lab.runtime.filemap import PIECE

AHEAD_BYTES = 32 * 2**20
"""Read and not yet on the device: in the system's cache, twice what it may read ahead by itself.
Disks here take some 10 ms for it, as long as a few layers."""

AT_ONCE = 4 * PIECE
"""Of one weight, asked for at once: in between the disk waits for this thread."""


class ReadAhead:
    """Has weights read before they have room on the device, on a thread of its own.

    Every run brings the same weights in the same order. Behind the last ones of a run the first
    ones of the next run are read, so that it need not wait for them.

    Args:
        weights: their names and bytes, in the order in which each run brings them; not empty.
        read: has bytes of a weight read: name, first of them, how many. What fails here fails again
            for whoever brings the weight.
        present: whether a weight is still on the device: it is read once it was forgotten.
    """

    def __init__(
        self,
        weights: Sequence[tuple[str, int]],
        read: Callable[[str, int, int], None],
        present: Callable[[str], bool],
    ) -> None:
        self._weights = weights
        self._bytes_before = [0, *accumulate(size for _, size in weights)]
        self._read = read
        self._present = present
        # Weights are counted on from run to run.
        self._brought = 0
        self._next = 0  # the one that is read
        self._first = 0  # bytes of it that were read
        self._end = 0  # none from here on may be read
        self._stopped = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def begin(self, *, again: bool) -> None:
        """Begins to read for a run, in which all weights will be brought.

        Args:
            again: whether another run follows.
        """
        with self._changed:
            self._end = self._brought + len(self._weights) * (2 if again else 1)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="flashmem-ahead", daemon=True)
            self._thread.start()

    def has_read(self) -> bool:
        """Whether the next weight to bring is in memory, or as much of it as is read ahead."""
        if self._brought < self._next or self._first >= AHEAD_BYTES:
            return True
        return self._present(self._of(self._brought)[0])

    def wait(self) -> None:
        """Waits for `has_read`, or until it is clear that nothing more will be read."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.has_read())

    def brought(self) -> None:
        """Hears that the next weight is on the device."""
        with self._changed:
            self._brought += 1
            if self._next < self._brought:
                self._next, self._first = self._brought, 0
            self._changed.notify_all()

    def forgotten(self) -> None:
        """Hears that a weight is no longer on the device."""
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends, once what is being read is read."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while (number := self._take()) is not None:
                name, size = self._of(number)
                first, part = self._first, min(AT_ONCE, size - self._first)
                self._read(name, first, part)
                self._done(number, first + part)
        except FlashMemError:
            pass  # whoever brings the weight says what is wrong
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def _take(self) -> int | None:
        """The weight to read, once some of it may be read; None if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._may_read())
            return None if self._stopped else self._next

    def _may_read(self) -> bool:
        if self._next == self._end:
            return False
        ahead = self._place(self._next) + self._first - self._place(self._brought)
        return ahead < AHEAD_BYTES and not self._present(self._of(self._next)[0])

    def _done(self, number: int, through: int) -> None:
        """Notes that a weight was read up to a byte, unless it was brought meanwhile."""
        with self._changed:
            if number == self._next:
                self._first = through
                if through == self._of(number)[1]:
                    self._next, self._first = number + 1, 0
                self._changed.notify_all()

    def _of(self, number: int) -> tuple[str, int]:
        """Name and bytes of a weight."""
        return self._weights[number % len(self._weights)]

    def _place(self, number: int) -> int:
        """Bytes of all weights before one."""
        runs, at = divmod(number, len(self._weights))
        return runs * self._bytes_before[-1] + self._bytes_before[at]
