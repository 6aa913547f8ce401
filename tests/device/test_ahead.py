"""Reading ahead: in order, no further than it may, into places that nobody uses."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import pytest

from flashmem_lab.errors import FlashMemError
from flashmem_lab.runtime.opencl.ahead import AHEAD_BYTES, AT_ONCE, MOST_AT_ONCE, ReadAhead

_WAIT_S = 20
_SIZE = 4096


class Disk:
    """Notes what is read, and says when a number of weights was."""

    def __init__(self) -> None:
        self.read_at_once: list[list[str]] = []
        self._changed = threading.Condition()

    @property
    def names(self) -> list[str]:
        return [name for batch in self.read_at_once for name in batch]

    def read(self, weights: Sequence[str]) -> None:
        with self._changed:
            self.read_at_once.append(list(weights))
            self._changed.notify_all()

    def await_count(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.names) >= count, _WAIT_S)


class Kernel:
    """A command of the device that is over when it is told to be."""

    def __init__(self, status: int = 3) -> None:
        self.command_execution_status = status
        self.waited = threading.Event()
        self.over = threading.Event()

    def wait(self) -> None:
        self.waited.set()
        assert self.over.wait(_WAIT_S)


def reader(
    disk: Disk,
    weights: str,
    *,
    size: int = _SIZE,
    room: int | None = None,
    joined: Collection[str] = (),
) -> ReadAhead:
    """One that reads weights of one size, named by letters, into a ring if there is `room`."""
    lap = room or len(weights)
    places = {name: (at % lap * size, (at % lap + 1) * size) for at, name in enumerate(weights)}
    return ReadAhead(tuple(weights), places, joined, disk.read, held=room is not None)


def use(ahead: ReadAhead, weights: str, *kernels: Kernel) -> None:
    """A run brings and ends weights."""
    for name in weights:
        ahead.made(name)
        ahead.wait()
        ahead.brought()
    for name in weights:
        ahead.ended(name, kernels)


def test_weights_are_read_in_order() -> None:
    disk = Disk()
    ahead = reader(disk, "abc", room=3)
    ahead.begin(again=False)
    use(ahead, "abc")
    ahead.stop()
    assert disk.read_at_once == [["a"], ["b"], ["c"]]


def test_those_that_lie_together_are_read_at_once_up_to_a_size() -> None:
    disk = Disk()
    ahead = reader(disk, "abcdef", size=AT_ONCE // 2, room=6, joined="bdef")
    ahead.begin(again=False)
    use(ahead, "abcdef")
    ahead.stop()
    assert disk.read_at_once == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_no_more_weights_are_read_at_once_than_a_read_takes() -> None:
    disk = Disk()
    many = "".join(map(chr, range(1000, 1000 + 2 * MOST_AT_ONCE)))
    ahead = reader(disk, many, size=1, room=len(many), joined=many)
    ahead.begin(again=False)
    use(ahead, many)
    ahead.stop()
    assert [len(batch) for batch in disk.read_at_once] == [MOST_AT_ONCE, MOST_AT_ONCE]


def test_a_place_is_overwritten_once_the_device_has_done_with_it() -> None:
    disk, kernel = Disk(), Kernel()
    ahead = reader(disk, "abc", room=2)  # c lies where a lies
    ahead.begin(again=False)
    disk.await_count(2)
    ahead.wait()
    ahead.brought()
    ahead.ended("a", [kernel])
    assert kernel.waited.wait(_WAIT_S)
    assert disk.names == ["a", "b"]
    kernel.over.set()
    disk.await_count(3)
    ahead.stop()


def test_nobody_waits_for_what_is_over() -> None:
    disk, kernel = Disk(), Kernel(status=0)
    ahead = reader(disk, "ab", room=1)
    ahead.begin(again=False)
    use(ahead, "a", kernel)
    use(ahead, "b")
    ahead.stop()
    assert not kernel.waited.is_set()


def test_the_next_runs_weights_are_read_behind_those_of_this_run_and_anew() -> None:
    disk = Disk()
    ahead = reader(disk, "ab", room=2)
    ahead.begin(again=True)
    use(ahead, "ab")
    disk.await_count(4)
    assert ahead.has_read()
    ahead.begin(again=False)  # the last one
    use(ahead, "ab")
    ahead.stop()
    assert disk.names == ["a", "b", "a", "b"]


def test_no_more_is_read_before_it_is_made_than_may_lie_ahead() -> None:
    disk = Disk()
    ahead = reader(disk, "abcd", size=AHEAD_BYTES // 2)
    ahead.begin(again=False)
    disk.await_count(2)
    ahead.made("a")
    disk.await_count(3)
    ahead.stop()
    assert disk.names == ["a", "b", "c"]


def test_one_that_is_larger_than_what_may_lie_ahead_is_read_when_it_is_made() -> None:
    disk = Disk()
    ahead = reader(disk, "ab", size=2 * AHEAD_BYTES)
    ahead.begin(again=False)
    use(ahead, "a")
    use(ahead, "b")
    ahead.stop()
    assert disk.names == ["a", "b"]


def test_what_is_still_on_the_device_is_passed_over() -> None:
    disk = Disk()
    ahead = reader(disk, "abc")
    ahead.begin(again=True)
    use(ahead, "abc")
    for name in "ac":
        ahead.forgotten(name)
    ahead.begin(again=False)
    use(ahead, "abc")  # the budget still has room for b, so it is found there
    ahead.stop()
    assert disk.names == ["a", "b", "c", "a", "c"]


def test_what_is_still_on_the_device_is_read_once_it_was_forgotten() -> None:
    disk = Disk()
    ahead = reader(disk, "ab")
    ahead.begin(again=True)
    use(ahead, "ab")
    assert disk.names == ["a", "b"]
    ahead.forgotten("a")
    disk.await_count(3)
    ahead.stop()
    assert disk.names == ["a", "b", "a"]


@pytest.mark.parametrize("error", [FlashMemError("the disk is gone"), MemoryError("no room")])
def test_what_fails_is_raised_to_whoever_waits(error: Exception) -> None:
    asked = []

    def fail(weights: Sequence[str]) -> None:
        asked.append(list(weights))
        raise error

    ahead = ReadAhead(("a", "b"), {"a": (0, 8), "b": (8, 16)}, (), fail, held=True)
    ahead.begin(again=False)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            ahead.wait()
    assert not ahead.has_read()
    ahead.stop()
    assert asked == [["a"]]


def test_stopping_ends_what_waits_for_room() -> None:
    disk = Disk()
    ahead = reader(disk, "ab", room=1)
    ahead.begin(again=False)
    disk.await_count(1)
    ahead.stop()
    assert disk.names == ["a"]
