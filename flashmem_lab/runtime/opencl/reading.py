"""Several chunks read at a time: one thread brings 6 GB/s from the page cache, a GPU takes 50."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter_ns
from types import TracebackType

from flashmem_lab.program.program import Program, Read

MOST_READERS = 3  # a ring has four slots, and one of them is being uploaded
Begin = Callable[[Read], Callable[[], int]]


def readers(program: Program, kind: str) -> int:
    """How many chunks to read at a time.

    Args:
        program: its ring must have a slot for each, and one more.
        kind: of the device; the kernels of a CPU want its cores for themselves.
    """
    slots = program.staging_bytes // program.slot_bytes if program.slot_bytes else 0
    cores = os.cpu_count() or 1
    return 1 if kind == "cpu" else max(1, min(MOST_READERS, slots - 1, cores // 2))


class ReadingAhead:
    """Reads under way, the oldest first; a context manager that ends with none.

    Args:
        count: how many at a time.
        begin: takes the place that a chunk is read into, in the order of the lane; what it
            returns reads the chunk, on any thread, and returns when the disk began, host ns.
    """

    def __init__(self, count: int, begin: Begin) -> None:
        self._count = count
        self._begin = begin
        self._under_way: deque[tuple[Read, Future[tuple[int, int]]]] = deque()
        self._ended_ns = 0
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="flashmem-read")

    def __enter__(self) -> ReadingAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def full(self) -> bool:
        """Whether no more can be begun before `next`."""
        return len(self._under_way) == self._count

    def next_is_done(self) -> bool:
        """Whether `next` need not wait."""
        return bool(self._under_way) and self._under_way[0][1].done()

    def begin(self, read: Read) -> None:
        """Begins a read."""
        fill = self._begin(read)
        self._under_way.append((read, self._pool.submit(lambda: (fill(), perf_counter_ns()))))

    def next(self) -> tuple[Read, int, int]:
        """Waits for the oldest: the read, when the disk began and when it ended, host ns.

        Times are those of a lane that does one read after another: each begins at the earliest
        where the one before it ended.

        Raises:
            CacheCorrupt, FlashMemError: it failed.
        """
        read, future = self._under_way.popleft()
        begun_ns, end_ns = future.result()
        begun_ns = max(begun_ns, self._ended_ns)
        self._ended_ns = max(end_ns, begun_ns)
        return read, begun_ns, self._ended_ns
