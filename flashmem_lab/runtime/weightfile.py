"""Packed weight files: read straight into given memory, or used where they lie in the page cache.

Every block is checked when it is first read. What is copied is read by `preadv`, never through a
mapping: mapped pages would count as memory of this process, which must not hold a second copy of
the weights, but where a GPU's driver pins it (`KeptWeights`). Where nothing is to stay in the page
cache, whole weights are read past it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.errors import CacheCorrupt, InputError, from_os_error
from flashmem_lab.program.container import align
from flashmem_lab.program.packed import check_rows
from flashmem_lab.program.program import PackedSpan
from flashmem_lab.runtime.filemap import FileMap
from flashmem_lab.runtime.hostmemory import HostMemory
from flashmem_lab.runtime.pagecache import PageCache, drops

NEAR = 128 * 1024
"""Bytes between weights that are read with them, 40 us of the disk: to ask again takes as long."""

_IOV_MAX = 1024  # buffers of one preadv; POSIX guarantees 16, Linux and macOS take 1024


class WeightFiles:
    """Open packed weight files (or a bundle).

    Args:
        paths: the files, as the spans number them.
        spans: where each weight lies; offsets from the start of its file.
        pages: what becomes of the pages that were read.

    Attributes:
        kept: whether pages that were read stay in memory.

    Raises:
        FlashMemError: one cannot be opened.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        spans: Mapping[str, PackedSpan],
        pages: PageCache = PageCache.AUTO,
    ) -> None:
        self._paths = paths
        self._spans = spans
        # File and offset of each block that was found sound: later runs only read it.
        self._sound: set[tuple[int, int]] = set()
        self._files: list[int] = []
        self._past_cache: dict[int, int] = {}  # open for reads past the page cache, by file
        self.kept = True
        self._maps: dict[int, FileMap] = {}
        try:
            for path in paths:
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            self.kept = not (drops(pages, paths) and hasattr(os, "posix_fadvise"))
        except OSError as error:
            self.close()
            raise from_os_error(error, "opening packed weights") from error
        if hasattr(os, "posix_fadvise"):
            for file in self._files:
                # Weights lie in a file in order of use: read far ahead.
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def close(self) -> None:
        """Closes the files."""
        while self._maps:
            self._maps.popitem()[1].close()
        while self._past_cache:
            os.close(self._past_cache.popitem()[1])
        while self._files:
            file = self._files.pop()
            if not self.kept:  # what was read ahead, too
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)

    def read_rows(self, weight: str, first_row: int, into: NDArray[np.uint8]) -> None:
        """Reads rows of a weight; blocks are compared with their checksums the first time.

        Args:
            weight: name.
            first_row: first row, the first of a block.
            into: shape (rows, row bytes); rows may lie apart, each one is contiguous. Whole
                blocks, or up to the weight's end.

        Raises:
            CacheCorrupt: a block differs or the file ends early.
            FlashMemError: the file cannot be read.
        """
        span = self._spans[weight]
        self._fill(weight, span.offset + first_row * span.row_bytes, into)
        self._check(weight, first_row, into)

    def in_place(self, weight: str) -> NDArray[np.uint8]:
        """All bytes of a weight where they lie in the page cache, shape (bytes,).

        They may be looked at once they were brought; before, a shortened file is fatal.

        Raises:
            CacheCorrupt: the file ends before them.
            FlashMemError: the file cannot be mapped.
        """
        span = self._spans[weight]
        mapped = self._map(span.file)
        if len(mapped) < span.offset + span.bytes:
            raise CacheCorrupt(self._paths[span.file], weight)
        return mapped[span.offset : span.offset + span.bytes]

    def bring(self, weight: str, first_row: int, rows: int) -> None:
        """Makes rows of a weight present where `in_place` has them, and checks them as `read_rows`.

        Raises:
            CacheCorrupt: a block differs or the file ends early.
            FlashMemError: the file cannot be read.
        """
        span = self._spans[weight]
        begin, size = span.offset + first_row * span.row_bytes, rows * span.row_bytes
        mapped = self._bring(weight, begin, size)
        self._check(weight, first_row, mapped[begin : begin + size].reshape(rows, -1))

    def bring_sound(self, weight: str) -> None:
        """Makes a weight present that was found sound before.

        Raises:
            CacheCorrupt: the file ends early.
            FlashMemError: the file cannot be read.
        """
        span = self._spans[weight]
        self._bring(weight, span.offset, span.bytes)

    def near(self, before: str, after: str) -> bool:
        """Whether a weight lies behind another one in the same file, with little in between."""
        first, second = self._spans[before], self._spans[after]
        gap = second.offset - first.offset - align(first.bytes)
        return first.file == second.file and 0 <= gap <= NEAR

    def read_whole(self, weights: Sequence[str], into: Sequence[NDArray[np.uint8]]) -> None:
        """Reads weights, past the page cache where their file system can; checks as `read_rows`.

        Args:
            weights: names; each but the first is `near` the one before it.
            into: an array for each, shape (bytes,), from a multiple of ALIGNMENT on: the weight's,
                rounded up to a multiple of it. What lies behind it in its file is read, too.

        Raises:
            CacheCorrupt, FlashMemError: as `read_rows`.
        """
        past_cache = self._fill_past_cache(weights, into)
        for name, array in zip(weights, into, strict=True):
            span = self._spans[name]
            if not past_cache:
                self._fill_views(name, span.offset, [array[: span.bytes].data])
            self._check(name, 0, array[: span.bytes].reshape(-1, span.row_bytes))

    def sound(self, weight: str) -> bool:
        """Whether every block of a weight was read before, and found sound."""
        span = self._spans[weight]
        rows = range(0, span.bytes // span.row_bytes, span.block_rows)
        return all(self._place(span, row) in self._sound for row in rows)

    def forget(self, weight: str) -> None:
        """Gives the memory back that `bring` took for a weight; its pages stay in the cache."""
        span = self._spans[weight]
        self._map(span.file).forget(span.offset, span.bytes)

    def whole(self, weight: str) -> NDArray[np.uint8]:
        """All bytes of a weight, checked; shape (bytes,)."""
        span = self._spans[weight]
        rows = np.empty((span.bytes // span.row_bytes, span.row_bytes), np.uint8)
        self.read_rows(weight, 0, rows)
        return rows.reshape(-1)

    def take(self, table: str, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows of a host table; a block that holds one is read whole and checked the first time.

        Args:
            table: name.
            index: row numbers, shape (n,); negative ones count from the end.

        Returns:
            The rows' bytes, shape (n, row bytes).

        Raises:
            InputError: a row number is out of range.
            CacheCorrupt: a block differs.
        """
        span = self._spans[table]
        height = span.bytes // span.row_bytes
        rows = np.where(index < 0, index + height, index)
        if len(rows) and not (rows.min() >= 0 and rows.max() < height):
            wrong = int(index[(rows < 0) | (rows >= height)][0])
            raise InputError(
                f"index {wrong} is outside table {table!r}, which has {height} rows",
                hint=f"give numbers from 0 to {height - 1}",
            )
        taken = np.empty((len(rows), span.row_bytes), np.uint8)
        views = taken.reshape(-1).data
        for at, row in enumerate(rows.tolist()):
            first = row - row % span.block_rows
            if self._place(span, first) not in self._sound:
                whole = np.empty((min(span.block_rows, height - first), span.row_bytes), np.uint8)
                self.read_rows(table, first, whole)
            view = views[at * span.row_bytes : (at + 1) * span.row_bytes]
            self._fill_views(table, span.offset + row * span.row_bytes, [view])
        return taken

    def _check(self, weight: str, first_row: int, rows: NDArray[np.uint8]) -> None:
        """Compares blocks with their checksums that were not yet."""
        span = self._spans[weight]
        for at in range(0, len(rows), span.block_rows):
            place = self._place(span, first_row + at)
            if place not in self._sound:
                block = np.ascontiguousarray(rows[at : at + span.block_rows])
                path = self._paths[span.file]
                check_rows(span, first_row + at, block.data, weight=weight, file=path)
                self._sound.add(place)

    def _bring(self, weight: str, begin: int, size: int) -> FileMap:
        mapped = self._map(self._spans[weight].file)
        with self._mapped(weight):
            mapped.bring(begin, size)
        return mapped

    @contextmanager
    def _mapped(self, weight: str) -> Iterator[None]:
        """Pages of a weight are asked for: they are present, or what fails is ours to explain."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.EFAULT:
                raise CacheCorrupt(self._paths[self._spans[weight].file], weight) from error
            raise from_os_error(error, f"reading packed weights of {weight!r}") from error

    def _map(self, file: int) -> FileMap:
        if file not in self._maps:
            try:
                size = os.fstat(self._files[file]).st_size
                mapped = FileMap(self._files[file], size)
            except OSError as error:
                raise from_os_error(error, f"mapping {self._paths[file]}") from error
            for span in self._spans.values():
                if span.file == file:
                    mapped.as_one(span.offset, span.bytes)
            self._maps[file] = mapped
        return self._maps[file]

    def _fill_past_cache(self, weights: Sequence[str], into: Sequence[NDArray[np.uint8]]) -> bool:
        """Whether the file system writes weights to memory by itself; if so, it was done."""
        spans = [self._spans[name] for name in weights]
        first, last = spans[0], spans[-1]
        views = [into[0].data]
        for (before, after), array in zip(pairwise(spans), into[1:], strict=True):
            gap = after.offset - before.offset - align(before.bytes)
            views += [self._between[:gap].data, array.data] if gap else [array.data]
        try:
            if first.file not in self._past_cache:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
                self._past_cache[first.file] = os.open(self._paths[first.file], flags)
            count = os.preadv(self._past_cache[first.file], views, first.offset)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a file system in memory, or of larger blocks
                return False
            raise from_os_error(error, f"reading packed weights of {weights[0]!r}") from error
        # A read that ends early is left to an ordinary one, which says why.
        return count >= last.offset + last.bytes - first.offset

    @cached_property
    def _between(self) -> NDArray[np.uint8]:
        """Where goes what lies between weights that are read at once."""
        return HostMemory(NEAR).bytes

    @staticmethod
    def _place(span: PackedSpan, row: int) -> tuple[int, int]:
        return span.file, span.offset + row * span.row_bytes

    def _fill(self, weight: str, offset: int, into: NDArray[np.uint8]) -> None:
        """Fills `into` from `offset` on: in one piece where it is contiguous, else row by row."""
        tight = into.flags.c_contiguous
        views = [into.reshape(-1).data] if tight else [row.data for row in into]
        for at in range(0, len(views), _IOV_MAX):
            offset = self._fill_views(weight, offset, views[at : at + _IOV_MAX])

    def _fill_views(self, weight: str, offset: int, views: list[memoryview]) -> int:
        file, begin = self._spans[weight].file, offset
        while views:
            try:
                count = os.preadv(self._files[file], views, offset)
            except OSError as error:
                raise from_os_error(error, f"reading packed weights of {weight!r}") from error
            if count == 0:
                raise CacheCorrupt(self._paths[file], weight)
            offset += count
            while views and count >= len(views[0]):  # a read may stop anywhere
                count -= len(views.pop(0))
            if views:
                views[0] = views[0][count:]
        if not self.kept:
            length = offset - begin
            os.posix_fadvise(self._files[file], begin, length, os.POSIX_FADV_DONTNEED)
        return offset
