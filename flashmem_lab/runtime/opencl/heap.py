"""The C heap that a CPU device takes its images from: freed ones must leave the process."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_THRESHOLD_BYTES = 256 * 1024


def return_freed_blocks() -> None:
    """Tells glibc to give large blocks back to the system as soon as they are freed.

    On a CPU device images and buffers are blocks of the C heap. Left alone, glibc raises its
    threshold for direct mappings to the size of whatever is freed (up to 32 MiB) and from then on
    keeps such blocks: streaming GPT-Neo 125M within 190 MB then held 400 MB resident, and 250 MB
    with this setting (PoCL 3.1, 2026-11). It is a setting of the whole process; elsewhere than on
    glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
