"""Compiled kernels on disk: what one process compiled, the next one loads.

PoCL keeps what it compiles, and yet reads each program's bitcode with LLVM when it is built from
source: 37 ms a kernel, against 2 ms from a binary, which saves 12 MB of resident memory too (PoCL
3.1, nine kernels of ViT, 2026-11). Drivers that keep nothing gain their whole compile time.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pyopencl as cl
import xxhash

from flashmem_lab.errors import FlashMemError
from flashmem_lab.program.container import replacing

_SUFFIX = ".clbin"
_MOST_BYTES = 256 * 2**20  # of all files; a binary of PoCL has some 90 kB
_IN_USE_S = 3600.0


class BinaryCache:
    """Binaries by device, driver and source; a file each, behind a checksum of its content.

    The checksum guards against damage, not against malice: the folder is the user's own.

    Args:
        folder: made when the first binary is kept.
        device: whose binaries they are; another driver or device finds none of them.
    """

    def __init__(self, folder: Path, device: cl.Device) -> None:
        platform = device.platform
        self._folder = folder
        self._device = "\n".join(
            (
                str(platform.name),
                str(platform.version),  # of PoCL, names its LLVM too
                str(device.name),
                str(device.version),
                str(device.driver_version),
            )
        )

    def load(self, source: str) -> bytes | None:
        """The binary of a source; None if there is none, or it is damaged."""
        path = self._path(source)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        digest, binary = data[:16], data[16:]
        if xxhash.xxh3_128_digest(binary) != digest:
            return None
        with suppress(OSError):
            os.utime(path)  # used now: `_make_room` takes the longest unused first
        return binary

    def save(self, source: str, binary: bytes) -> None:
        """Keeps a binary; a disk that refuses it costs a compilation later, so that is silent."""
        with suppress(OSError, FlashMemError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(binary))
            with replacing(self._path(source), "keeping a compiled kernel") as file:
                file.write(xxhash.xxh3_128_digest(binary) + binary)

    def _path(self, source: str) -> Path:
        key = xxhash.xxh3_128_hexdigest(f"{self._device}\n{source}".encode())
        return self._folder / f"{key}{_SUFFIX}"

    def _make_room(self, wanted: int) -> None:
        found = sorted(
            (state.st_mtime, state.st_size, path)
            for path in self._folder.glob(f"*{_SUFFIX}")
            if (state := path.stat())
        )
        kept = sum(size for _, size, _ in found)
        for used, size, path in found:
            if kept + wanted <= _MOST_BYTES or time.time() - used < _IN_USE_S:
                return
            path.unlink()
            kept -= size
