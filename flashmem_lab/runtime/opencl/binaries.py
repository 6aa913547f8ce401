"""Kernels as the driver compiled them, on disk, so that a later process need not compile."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyopencl as cl
import xxhash

from flashmem_lab.errors import FlashMemError
from flashmem_lab.program.container import remove_stale, replacing

_SUFFIX = ".kernels"
_KEPT = 64  # files; some 1 MB each on PoCL
_MAGIC = b"FMLKER\r\n"
_COUNT = struct.Struct("<I")
_PART = struct.Struct("<QQ")  # bytes of a binary, and their xxh3-64


class KernelBinaries:
    """Binaries of one device and driver, a file for each set of sources.

    A driver gets only bytes that match their checksum; whatever else is amiss, the sources are
    compiled. A file that cannot be written costs the next process its compilation, so that is
    silent.

    Args:
        device: whose.
        folder: where the files are; it need not exist.
    """

    def __init__(self, device: cl.Device, folder: Path) -> None:
        platform = device.platform
        self._device = (platform.name, platform.version, device.name, device.driver_version)
        self._folder = folder

    def load(self, sources: Iterable[str]) -> dict[str, bytes]:
        """Binaries by source: all of `sources`, or none."""
        wanted = list(sources)
        try:
            data = memoryview(self._path(wanted).read_bytes())
        except OSError:
            return {}
        try:
            return dict(zip(wanted, _parts(data, len(wanted)), strict=True))
        except (struct.error, ValueError):
            return {}

    def save(self, binaries: dict[str, bytes]) -> None:
        """Keeps binaries, by source; those of the same sources are replaced."""
        parts = [_MAGIC, _COUNT.pack(len(binaries))]
        for binary in binaries.values():
            parts += [_PART.pack(len(binary), xxhash.xxh3_64_intdigest(binary)), binary]
        path = self._path(binaries)
        with suppress(FlashMemError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path.parent)
            with replacing(path, "keeping compiled kernels") as file:
                file.write(b"".join(parts))
            files = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime)
            for oldest in files[:-_KEPT]:
                oldest.unlink()

    def _path(self, sources: Iterable[str]) -> Path:
        digest = xxhash.xxh3_128()
        for text in (*self._device, *sources):
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return self._folder / f"{digest.hexdigest()}{_SUFFIX}"


def _parts(data: memoryview, count: int) -> list[bytes]:
    """The binaries in a file.

    Raises:
        ValueError, struct.error: it is damaged, or holds another number of them.
    """
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("not a file of kernels")
    at = len(_MAGIC)
    if _COUNT.unpack_from(data, at)[0] != count:
        raise ValueError("another number of kernels")
    at += _COUNT.size
    parts = []
    for _ in range(count):
        size, checksum = _PART.unpack_from(data, at)
        at += _PART.size
        part = bytes(data[at : at + size])
        if len(part) != size or xxhash.xxh3_64_intdigest(part) != checksum:
            raise ValueError("a kernel is damaged")
        parts.append(part)
        at += size
    return parts
