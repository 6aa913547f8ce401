"""Files as memory: a device that works in the host's memory uses weights where the file lies in it.

Nothing is copied: a page of the system's page cache becomes a page of this process while it is
needed. How fast that goes depends on how large the pieces are in which the system keeps the file
(folios), and so on how it was written (`container.WEIGHT_BUFFER`): pieces of 2 MiB are mapped, and
copied, several times as fast as pages one by one. `flashmem-lab bench streaming` has what is left.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

_AROUND = 64 * 1024  # Linux maps what is in memory around a page that is touched (fault-around)
_IOV_MAX = 1024


def can_map() -> bool:
    """Whether this system has what `FileMap` asks for; only Linux."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


class FileMap:
    """A file in the address space of this process, for reading.

    Args:
        file: an open file; it may be closed once it is mapped.
        size: its bytes, more than 0.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, file: int, size: int) -> None:
        self._memory = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
        with suppress(OSError):  # a system without large pages
            # Else 2 MiB around each touched page could count as memory of this process.
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self._memory.madvise(mmap.MADV_SEQUENTIAL)  # weights lie in order of use: read far ahead
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._address = self._bytes.ctypes.data
        self._sink = os.memfd_create("flashmem-lab", os.MFD_CLOEXEC)

    def __len__(self) -> int:
        return len(self._memory)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Bytes of the file; whoever looks at them where the file has ended is killed (SIGBUS)."""
        return self._bytes[part]

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
        view = self._bytes.data
        # What is mapped around a page is aligned by address.
        second = offset + _AROUND - (self._address + offset) % _AROUND
        touched = [view[at : at + 1] for at in (offset, *range(second, offset + size, _AROUND))]
        for at in range(0, len(touched), _IOV_MAX):
            os.pwritev(self._sink, touched[at : at + _IOV_MAX], 0)

    def forget(self, offset: int, size: int) -> None:
        """Gives the pages back to the system; they stay in its cache, and can be brought again."""
        begin = offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._memory.madvise(mmap.MADV_DONTNEED, begin, offset + size - begin)

    def close(self) -> None:
        """Ends the mapping once nobody holds any of its bytes."""
        os.close(self._sink)
        del self._bytes
