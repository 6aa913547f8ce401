"""What the system's page cache holds of a file."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache; looking brings none there."""
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    view = np.frombuffer(memory, np.uint8)
    pages = np.zeros(-(-len(view) // mmap.PAGESIZE), np.uint8)
    found = ctypes.CDLL(None, use_errno=True).mincore(
        ctypes.c_void_p(view.ctypes.data),
        ctypes.c_size_t(len(view)),
        ctypes.c_void_p(pages.ctypes.data),
    )
    assert found == 0, os.strerror(ctypes.get_errno())
    return int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE


def drops_pages(path: Path) -> bool:
    """Drops the pages of a file that is on the disk; whether its file system does that."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return cached_bytes(path) == 0
