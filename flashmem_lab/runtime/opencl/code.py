"""The code of a CPU device's compiler: resident when the device was opened, and not needed again.

PoCL is built on LLVM, whose start touches code all over; the system maps it in pieces of up to
2 MiB. With kernels that are kept as binaries nobody runs it afterwards: 56 of the 132 MB that a
process holds before its first run (PoCL 3.1 with LLVM 15, 2026-11).
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

_LARGE = 16 * 2**20  # bytes of code in one library: compilers have that, and little else
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp [0-9a-f]+ \S+ ([0-9]+)")
# Linux: Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61


def forget_code() -> int:
    """Gives pages of large libraries' code back to the system; bytes of the code looked at.

    Each comes again from the system's cache when somebody runs it. Code that was changed in memory
    stays as it is. Elsewhere than on Linux this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    looked = 0
    with suppress(OSError):  # a system that does not tell
        for begin, size in _large_code():
            if _all_of_file(begin, size):
                libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
                looked += size
    return looked


def _large_code() -> Iterator[tuple[int, int]]:
    """Address and bytes of each mapping of a file's code that is large."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = _MAPPING.match(line)
        if found and found[3] != "0":
            begin, end = int(found[1], 16), int(found[2], 16)
            if end - begin >= _LARGE:
                yield begin, end - begin


def _all_of_file(begin: int, size: int) -> bool:
    """Whether every page that is present, or was swapped out, is the file's own."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(begin // mmap.PAGESIZE * 8)
        pages = np.frombuffer(file.read(size // mmap.PAGESIZE * 8), np.uint64)
    held = pages[pages & np.uint64(_PRESENT | _SWAPPED) != 0]
    return bool((held & np.uint64(_OF_FILE) != 0).all())
