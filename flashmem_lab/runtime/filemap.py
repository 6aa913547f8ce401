"""Files as memory: a device that works in the host's memory uses weights where the file lies in it.

Nothing is copied: a page of the system's page cache becomes a page of this process while it is
needed. How fast that goes depends on how large the pieces are in which the system keeps the file
(folios), and so on how it was written (`container.WEIGHT_BUFFER`) or read: pieces of 2 MiB are
mapped, and copied, several times as fast as pages one by one. `flashmem-lab bench streaming` has
what is left.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

PIECE = 2 * 2**20
"""Bytes that one entry of the page table can map (a huge page), and the largest folio."""

_AROUND = 64 * 1024  # Linux maps what is in memory around a page that is touched (fault-around)
_IOV_MAX = 1024


def can_map() -> bool:
    """Whether this system has what `FileMap` asks for; only Linux."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


class FileMap:
    """A file in the address space of this process, for reading.

    It is mapped twice: weights lie in the one mapping; through the other one the system is asked to
    read the file in whole pieces, whatever is asked for first. Read otherwise, it would lie in
    memory page by page.

    Args:
        file: an open file; it must stay open.
        size: its bytes, more than 0.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, file: int, size: int) -> None:
        self._memory = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
        self._reader = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
        try:
            # Else 2 MiB around each touched page could count as memory of this process.
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
            self._reader.madvise(mmap.MADV_HUGEPAGE)
            # A system that reads ahead asks for so much at once that what is needed first comes
            # late: a piece at a time takes 0.6 ms here, the first of 8 MB 5 (3.3 GB/s either way).
            self._reader.madvise(mmap.MADV_RANDOM)
            # Pages that are gone must not come one by one.
            self._memory.madvise(mmap.MADV_SEQUENTIAL)
        except OSError:  # a system without large pages
            self._reader.madvise(mmap.MADV_SEQUENTIAL)
            self._memory.madvise(mmap.MADV_SEQUENTIAL)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._address = self._bytes.ctypes.data
        self._reader_address = np.frombuffer(self._reader, np.uint8).ctypes.data
        self._read: set[int] = set()  # pieces, by number
        # Whoever waits for the disk in a write keeps others from writing to the same file.
        self._sink = os.memfd_create("flashmem-lab", os.MFD_CLOEXEC)
        self._reader_sink = os.memfd_create("flashmem-lab", os.MFD_CLOEXEC)
        self._pwritev = ctypes.CDLL(None, use_errno=True).pwritev
        self._pwritev.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_long)
        self._pwritev.restype = ctypes.c_ssize_t

    def __len__(self) -> int:
        return len(self._memory)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Bytes of the file; whoever looks at them where the file has ended is killed (SIGBUS)."""
        return self._bytes[part]

    def as_one(self, offset: int, size: int) -> None:
        """Says that bytes are brought and forgotten together: pieces within may be mapped whole.

        Such a piece is one entry of the page table, not 512. Where the system keeps the file in
        smaller ones, nothing changes.
        """
        begin = -(-offset // PIECE) * PIECE
        end = (offset + size) // PIECE * PIECE
        if begin < end and self._address % PIECE == 0:
            with suppress(OSError):  # a system without large pages
                self._memory.madvise(mmap.MADV_HUGEPAGE, begin, end - begin)

    def read(self, offset: int, size: int) -> None:
        """Has the system read bytes of the file into its cache, in whole pieces, once.

        Raises:
            OSError: as `bring`.
        """
        pieces = pieces_of(offset, size)
        if self._read.issuperset(pieces):
            return
        begin, end = pieces.start * PIECE, min(pieces.stop * PIECE, len(self))
        places = self._reader_address + np.arange(begin, end, PIECE, dtype=np.uintp)
        self._look_at(places, self._reader_sink)
        self._reader.madvise(mmap.MADV_DONTNEED, begin, end - begin)
        self._read.update(pieces)

    def bring(self, offset: int, size: int) -> None:
        """Makes bytes of the file memory of this process; other threads run meanwhile.

        The system itself is asked to look at one byte in every 64 KiB, and maps what it has around
        it: where the file has ended, or the disk fails, that is an error and no signal.

        Args:
            offset: of the first.
            size: how many.

        Raises:
            OSError: the file is shorter now (EFAULT), or cannot be read.
        """
        self.read(offset, size)
        first = self._address + offset
        # What is mapped around a page is aligned by address.
        places = np.arange(first - first % _AROUND, first + size, _AROUND, dtype=np.uintp)
        places[0] = first
        self._look_at(places, self._sink)

    def forget(self, offset: int, size: int) -> None:
        """Gives the pages back to the system; they stay in its cache, and can be brought again."""
        begin = offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._memory.madvise(mmap.MADV_DONTNEED, begin, offset + size - begin)

    def close(self) -> None:
        """Ends the mapping once nobody holds any of its bytes."""
        os.close(self._sink)
        os.close(self._reader_sink)
        del self._bytes

    def _look_at(self, places: NDArray[np.uintp], sink: int) -> None:
        """Has the system look at a byte at each address, by writing it to a file in memory.

        Raises:
            OSError: one is not to be had.
        """
        vectors = np.ones((len(places), 2), np.uintp)  # struct iovec: address, length
        vectors[:, 0] = places
        done = 0
        while done < len(vectors):
            part = vectors[done : done + _IOV_MAX]
            count = self._pwritev(sink, part.ctypes.data, len(part), 0)
            if count < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            done += count  # fewer than asked where the next one fails


def pieces_of(offset: int, size: int) -> range:
    """Numbers of the pieces in which bytes of a file lie."""
    return range(offset // PIECE, -(-(offset + size) // PIECE))
