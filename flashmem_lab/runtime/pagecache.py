"""Whether the pages of weight files stay in the host's page cache once they were read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path


class PageCache(StrEnum):
    """What becomes of pages that were read.

    Streamed weights are read in every run. Kept pages make the next run faster, and the system
    gives them up when others need memory; but files that do not fit push out each other's pages
    and everybody else's before any is read again.
    """

    AUTO = "auto"  # keep them where the files fit twice into the memory that is available
    KEEP = "keep"
    DROP = "drop"  # posix_fadvise(DONTNEED) behind the read, where the system has it


def drops(asked: PageCache, files: Iterable[Path]) -> bool:
    """Whether pages are dropped."""
    if asked is not PageCache.AUTO:
        return asked is PageCache.DROP
    import psutil

    size = sum(path.stat().st_size for path in files)
    return size * 2 > int(psutil.virtual_memory().available)
