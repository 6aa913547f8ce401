"""Reading ahead: in order, no further than it may, and never what is there."""

from __future__ import annotations

import threading

from flashmem_lab.errors import FlashMemError
from flashmem_lab.runtime.filemap import PIECE
from flashmem_lab.runtime.opencl.ahead import AHEAD_BYTES, AT_ONCE, ReadAhead

_WAIT_S = 20


def nothing(name: str) -> bool:
    """No weight is on the device."""
    return False


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


def test_weights_are_read_in_order_and_in_parts() -> None:
    disk = Disk()
    ahead = ReadAhead([("a", AT_ONCE + 5), ("b", 3)], disk.read, nothing)
    ahead.begin(again=False)
    disk.await_parts(3)
    ahead.stop()
    assert disk.parts == [("a", 0, AT_ONCE), ("a", AT_ONCE, 5), ("b", 0, 3)]


def test_no_more_is_read_than_may_lie_ahead() -> None:
    disk, within = Disk(), AHEAD_BYTES // PIECE
    weights = [(f"w{at}", PIECE) for at in range(2 * within)]
    ahead = ReadAhead(weights, disk.read, nothing)
    ahead.begin(again=False)
    disk.await_parts(within)
    ahead.brought()
    disk.await_parts(within + 1)
    ahead.stop()
    assert [name for name, _, _ in disk.parts] == [f"w{at}" for at in range(within + 1)]


def test_a_weight_that_is_larger_than_what_may_lie_ahead_can_be_brought() -> None:
    disk = Disk()
    ahead = ReadAhead([("a", 2 * AHEAD_BYTES), ("b", PIECE)], disk.read, nothing)
    ahead.begin(again=False)
    ahead.wait()
    assert sum(size for _, _, size in disk.parts) == AHEAD_BYTES
    ahead.brought()
    ahead.wait()
    ahead.stop()
    assert disk.parts[-1] == ("b", 0, PIECE)


def test_the_next_runs_weights_are_read_behind_those_of_this_run() -> None:
    disk = Disk()
    ahead = ReadAhead([("a", PIECE), ("b", PIECE)], disk.read, nothing)
    ahead.begin(again=True)
    for _ in range(2):
        ahead.wait()
        ahead.brought()
    disk.await_parts(4)
    assert ahead.has_read()
    ahead.begin(again=False)  # the last one
    for _ in range(2):
        ahead.wait()
        ahead.brought()
    ahead.stop()
    assert [name for name, _, _ in disk.parts] == ["a", "b", "a", "b"]


def test_what_was_brought_is_not_read() -> None:
    disk = Disk()

    def read(name: str, first: int, size: int) -> None:
        disk.read(name, first, size)
        if name == "a":  # while it is read others bring it, and the next one
            ahead.brought()
            ahead.brought()

    ahead = ReadAhead([("a", PIECE), ("b", PIECE), ("c", PIECE)], read, nothing)
    ahead.begin(again=False)
    ahead.wait()
    disk.await_parts(2)
    ahead.stop()
    assert disk.parts == [("a", 0, PIECE), ("c", 0, PIECE)]


def test_what_is_still_on_the_device_is_read_once_it_was_forgotten() -> None:
    disk, on_device = Disk(), {"a"}
    ahead = ReadAhead([("a", PIECE), ("b", PIECE)], disk.read, on_device.__contains__)
    ahead.begin(again=True)
    ahead.wait()  # not for the disk
    ahead.brought()
    ahead.wait()
    assert disk.parts == [("b", 0, PIECE)]
    on_device.clear()
    ahead.forgotten()
    ahead.brought()
    ahead.wait()
    ahead.stop()
    assert ("a", 0, PIECE) in disk.parts


def test_a_disk_that_fails_is_asked_no_more() -> None:
    asked = []

    def fail(name: str, first: int, size: int) -> None:
        asked.append(name)
        raise FlashMemError("the disk is gone")

    ahead = ReadAhead([("a", PIECE), ("b", PIECE)], fail, nothing)
    ahead.begin(again=False)
    ahead.wait()
    assert not ahead.has_read()
    ahead.stop()
    assert asked == ["a"]
