"""Reading ahead: in order, no further than it may, and never what is there."""

from __future__ import annotations

import threading

from flashmem_lab.errors import FlashMemError
from flashmem_lab.runtime.filemap import PIECE
from flashmem_lab.runtime.opencl.ahead import AHEAD_BYTES, ReadAhead

_WAIT_S = 20


class Disk:
    """Notes what is read, and says when a number of parts was."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, int, int]] = []
        self._changed = threading.Condition()

    def read(self, name: str, first: int, size: int) -> None:
        with self._changed:
            self.parts.append((name, first, size))
            self._changed.notify_all()

    def await_parts(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.parts) >= count, _WAIT_S)


def test_weights_are_read_in_order_and_in_pieces() -> None:
    disk = Disk()
    ahead = ReadAhead([("a", PIECE + 5), ("b", 3)], disk.read)
    ahead.start()
    disk.await_parts(3)
    ahead.stop()
    assert disk.parts == [("a", 0, PIECE), ("a", PIECE, 5), ("b", 0, 3)]


def test_no_more_is_read_than_may_lie_ahead() -> None:
    disk, within = Disk(), AHEAD_BYTES // PIECE
    weights = [(f"w{at}", PIECE) for at in range(2 * within)]
    ahead = ReadAhead(weights, disk.read)
    ahead.start()
    disk.await_parts(within)
    ahead.brought()
    disk.await_parts(within + 1)
    ahead.stop()
    assert [name for name, _, _ in disk.parts] == [f"w{at}" for at in range(within + 1)]


def test_what_was_brought_is_not_read() -> None:
    disk = Disk()
    ahead = ReadAhead([("a", PIECE), ("b", PIECE), ("c", PIECE)], disk.read)
    ahead.brought()
    ahead.brought()
    ahead.start()
    disk.await_parts(1)
    ahead.stop()
    assert disk.parts == [("c", 0, PIECE)]


def test_a_disk_that_fails_is_asked_no_more() -> None:
    asked = []

    def fail(name: str, first: int, size: int) -> None:
        asked.append(name)
        raise FlashMemError("the disk is gone")

    ahead = ReadAhead([("a", PIECE), ("b", PIECE)], fail)
    ahead.start()
    ahead.stop()
    assert asked in ([], ["a"])
