"""Reading ahead: the disk works on while the device computes, as far as there is room."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flashmem_lab.runtime.opencl.errors import translating

AHEAD_BYTES = 32 * 2**20
"""Of weights that were read and have no room on the device yet. Disks here take some 10 ms for it,
as long as a few layers."""

AT_ONCE = 4 * 2**20
"""Bytes of several weights that are read at once. Smaller ones keep the disk waiting for this
thread, and larger ones whoever waits for the first of them for the last."""

MOST_AT_ONCE = 256
"""Weights that are read at once: a read takes 1,024 pieces of memory, and two for each of them."""


class Use(Protocol):
    """A command of the device that uses a weight; an event of OpenCL is one."""

    @property
    def command_execution_status(self) -> int:
        """More than 0 until the command is over."""
        ...

    def wait(self) -> object:
        """Returns once the command is over."""
        ...


@dataclass(slots=True)
class _Batch:
    """Weights that are read at once; it grows until they are.

    Attributes:
        bytes: of all of them.
        numbers, weights: which ones.
        pending: uses of what lies in their places.
    """

    bytes: int = 0
    numbers: list[int] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    pending: list[Use] = field(default_factory=list)


class ReadAhead:
    """Reads weights into their places in memory, in order, on a thread of its own.

    Every run uses the same weights in the same order. Behind the last ones of a run the first
    ones of the next run are read, so that it need not wait for them.

    Places that are there throughout may overlap: what lies in one is overwritten once the device
    has done with it, and is read anew in every run. Else the place of a weight is there from when
    it is read until it is forgotten, in the next run if it was not forgotten before; then it is not
    read again. No more than AHEAD_BYTES are read before they are made.

    Args:
        weights: in the order in which each run uses them; not empty.
        places: where each lies, from byte to byte.
        joined: those that can be read at once with the one before.
        read: reads weights into their places, each of them but the first a joined one.
        held: whether all places are there throughout.
    """

    def __init__(
        self,
        weights: Sequence[str],
        places: Mapping[str, tuple[int, int]],
        joined: Container[str],
        read: Callable[[Sequence[str]], None],
        *,
        held: bool,
    ) -> None:
        self._weights = weights
        self._bytes = {name: end - begin for name, (begin, end) in places.items()}
        self._joined = joined
        self._beside = _overlapping(places)
        self._read = read
        self._held = held
        # Weights are counted on from run to run.
        self._brought = 0
        self._next = 0  # the one to be read next
        self._come: set[int] = set()  # those that were read, or found there, and not brought yet
        self._end = 0  # none from here on may be read
        self._made: Counter[str] = Counter()  # how often, beyond how often they were read
        self._ahead = 0  # bytes of those that were read and not made
        self._awaiting: Counter[str] = Counter()  # uses that are to come or not handed over yet
        self._used: dict[str, tuple[Use, ...]] = {}  # the last ones that were
        self._there: set[str] = set()  # what lies in memory, or is about to
        self._stopped = False
        self._error: Exception | None = None
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
        """Whether the next weight to bring is in memory."""
        with self._changed:
            return self._brought in self._come

    def wait(self) -> None:
        """Waits for `has_read`.

        Raises:
            As `read`: it, or one that is read before it, cannot be read.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.has_read())
            if not self.has_read():
                assert self._error is not None, "nobody waits any more once it was stopped"
                raise self._error

    def brought(self) -> None:
        """Hears that the next weight is on the device."""
        with self._changed:
            self._come.discard(self._brought)
            self._brought += 1

    def made(self, weight: str) -> None:
        """Hears that a weight has room."""
        if self._held:
            return
        with self._changed:
            self._made[weight] += 1
            if self._made[weight] <= 0:
                self._ahead -= self._bytes[weight]
            self._changed.notify_all()

    def ended(self, weight: str, used: Iterable[Use]) -> None:
        """Hears that a run needs a weight no more; `used` are the last commands that use it."""
        with self._changed:
            self._awaiting[weight] -= 1
            self._used[weight] = tuple(used)
            self._changed.notify_all()

    def forgotten(self, weight: str) -> None:
        """Hears that the place of a weight is no longer there."""
        with self._changed:
            self._there.discard(weight)
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
            batch = self._take(())
            while batch is not None:
                with translating(f"waiting for the room of {batch.weights[0]!r}"):
                    for use in batch.pending:
                        # Even a wait for what is over hands Python to the main thread, and the
                        # disk would stand still until that has done all it can.
                        if use.command_execution_status > 0:
                            use.wait()
                self._read(batch.weights)
                batch = self._take(batch.numbers)
        except Exception as error:
            self._error = error  # whoever waits for the weight raises it
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def _take(self, read: Iterable[int]) -> _Batch | None:
        """What to read next, at once with saying what was read: the disk is not to wait in between.

        Args:
            read: numbers of the weights that were read.

        Returns:
            None if there is nothing more to read.
        """
        with self._changed:
            self._come.update(read)
            self._changed.notify_all()
            while True:
                self._changed.wait_for(lambda: self._stopped or self._may_read())
                if self._stopped:
                    return None
                batch = _Batch()
                while self._may_read() and self._fits(batch):
                    self._claim(batch)
                if batch.weights:
                    return batch

    def _claim(self, batch: _Batch) -> None:
        """Adds the next weight to what is read; or it is in memory."""
        number, weight = self._next, self._of(self._next)
        self._next += 1
        if not self._held:
            self._made[weight] -= 1
            if self._made[weight] < 0:
                self._ahead += self._bytes[weight]
        self._awaiting[weight] += 1
        if self._finds(weight):
            self._come.add(number)
            self._changed.notify_all()
            return
        over = self._beside[weight] & self._there
        self._there -= over
        self._there.add(weight)
        batch.bytes += self._bytes[weight]
        batch.numbers.append(number)
        batch.weights.append(weight)
        batch.pending.extend(use for one in over for use in self._used.pop(one, ()))

    def _fits(self, batch: _Batch) -> bool:
        """Whether the next weight can be read at once with those of a batch."""
        if not batch.weights:
            return True
        weight = self._of(self._next)
        return (
            weight in self._joined
            and not self._finds(weight)
            and batch.bytes + self._bytes[weight] <= AT_ONCE
            and len(batch.weights) < MOST_AT_ONCE
        )

    def _may_read(self) -> bool:
        if self._next == self._end:
            return False
        weight = self._of(self._next)
        if self._held:
            return not any(self._awaiting[one] for one in self._beside[weight] & self._there)
        if self._made[weight] > 0:
            return True
        return weight not in self._there and self._ahead + self._bytes[weight] <= AHEAD_BYTES

    def _finds(self, weight: str) -> bool:
        """Whether a weight need not be read again."""
        return weight in self._there and not self._held

    def _of(self, number: int) -> str:
        return self._weights[number % len(self._weights)]


def _overlapping(places: Mapping[str, tuple[int, int]]) -> dict[str, frozenset[str]]:
    """Those whose places have bytes in common with that of each weight, itself too."""
    order = sorted(places, key=lambda name: places[name])
    begins = [places[name][0] for name in order]
    largest = max((end - begin for begin, end in places.values()), default=0)
    found = {}
    for name, (begin, end) in places.items():
        near = order[bisect_left(begins, begin - largest) : bisect_left(begins, end)]
        found[name] = frozenset(one for one in near if places[one][1] > begin)
    return found
