"""The frame that packed weight files and bundles share: preamble, JSON header, data section.

BUNDLE.md documents it. A reader trusts nothing: the preamble carries its own checksum, every
offset is held against the file's real size, and the header is expanded only up to a fixed limit.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import xxhash

from flashmem_lab.errors import DiskFull, from_os_error
from flashmem_lab.units import format_bytes

ALIGNMENT = 4096
"""Offsets of the data section and of every weight in it: what O_DIRECT and mmap ask for."""

WEIGHT_BUFFER = 32 * 2**20
"""Bytes of weights written at once: Linux keeps a file in memory in pieces (folios) as large as it
was written, up to 2 MiB, and reads large ones many times as fast (runtime/filemap.py)."""

PREAMBLE_BYTES = 4096
_FIELDS = struct.Struct("<8sIIQQQQQQQ")
_CHECKSUM = struct.Struct("<Q")
_YOUNG_S = 10.0  # a file younger than this may not be locked yet
_FORGOTTEN_S = 86_400.0  # since the last write to a file that cannot be locked
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_HEADER_LIMIT = 64 * 2**20  # stored bytes
_PLAIN_LIMIT = 128 * 2**20  # after expansion; the models of the zoo need less than 8 MiB


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the parts of a file lie.

    Attributes:
        header: decoded JSON.
        data_offset, data_bytes: the data section, bytes from the start of the file.
    """

    header: Any
    data_offset: int
    data_bytes: int


class FrameError(Exception):
    """The file is not one of ours, is damaged, or is of another version."""


def pad_to(file: BinaryIO, offset: int) -> None:
    """Writes zeros up to `offset`, so that whole buffers are written and none is for a seek."""
    file.write(bytes(offset - file.tell()))


def align(offset: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def encode_header(header: Any) -> tuple[bytes, int]:
    """The header as it is stored, and its length before compression."""
    plain = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return zlib.compress(plain, 6), len(plain)


def encode_preamble(
    magic: bytes,
    version: int,
    header: bytes,
    plain_bytes: int,
    *,
    header_offset: int,
    data_offset: int,
    data_bytes: int,
    file_bytes: int,
) -> bytes:
    """The first PREAMBLE_BYTES of the file."""
    fields = _FIELDS.pack(
        magic,
        version,
        0,
        header_offset,
        len(header),
        plain_bytes,
        xxhash.xxh3_64_intdigest(header),
        data_offset,
        data_bytes,
        file_bytes,
    )
    body = fields.ljust(PREAMBLE_BYTES - _CHECKSUM.size, b"\0")
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def has_magic(path: Path, magic: bytes) -> bool:
    """Whether the file begins as one of this kind."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def read_frame(path: Path, magic: bytes, version: int) -> Frame:
    """Parses preamble and header; the data section is only held against the file's size.

    Raises:
        FrameError: see there.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        preamble = file.read(PREAMBLE_BYTES)
        if preamble[: len(magic)] != magic:
            raise FrameError("it does not begin with the right magic bytes")
        if len(preamble) < PREAMBLE_BYTES:
            raise FrameError("it is truncated")
        found = _FIELDS.unpack_from(preamble)
        if found[1] != version:
            raise FrameError(f"it has format version {found[1]}, this release reads {version}")
        body = preamble[: -_CHECKSUM.size]
        if preamble[-_CHECKSUM.size :] != _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body)):
            raise FrameError("its preamble does not match its checksum")
        _, _, flags, header_offset, header_bytes, plain_bytes, digest, *rest = found
        data_offset, data_bytes, file_bytes = rest
        if flags != 0:
            raise FrameError(f"it uses features unknown to this release (flags {flags:#x})")
        if file_bytes != size:
            raise FrameError(f"it has {size} bytes instead of {file_bytes}: truncated or extended")
        if header_bytes > _HEADER_LIMIT or plain_bytes > _PLAIN_LIMIT:
            raise FrameError("its header is larger than any real one")
        parts = sorted([(header_offset, header_bytes), (data_offset, data_bytes)])
        if (
            data_offset % ALIGNMENT != 0
            or parts[0][0] < PREAMBLE_BYTES
            or parts[0][0] + parts[0][1] > parts[1][0]
            or parts[1][0] + parts[1][1] > size
        ):
            raise FrameError("its header and data sections overlap or lie outside the file")
        header = _read_header(file, header_offset, header_bytes, plain_bytes, digest)
    return Frame(header, data_offset, data_bytes)


def _read_header(file: BinaryIO, offset: int, stored: int, plain_bytes: int, digest: int) -> Any:
    file.seek(offset)
    data = file.read(stored)
    if len(data) != stored or xxhash.xxh3_64_intdigest(data) != digest:
        raise FrameError("its header does not match its checksum")
    expander = zlib.decompressobj()
    try:
        plain = expander.decompress(data, plain_bytes + 1)
        if len(plain) != plain_bytes or not expander.eof or expander.unused_data:
            raise FrameError("its header does not expand to the stated size")
        return json.loads(plain)
    except (zlib.error, ValueError, RecursionError) as error:
        raise FrameError(f"its header cannot be decoded: {error}") from error


@contextmanager
def replacing(
    path: Path, doing: str, *, lasting: bool = True, buffer_bytes: int = -1
) -> Iterator[BinaryIO]:
    """A new file that takes `path`'s place when the block ends well, and vanishes otherwise.

    The file has a unique name in the same folder and is then renamed, so others see the old file or
    the whole new one, and two writers do not meet. It is locked for as long as its writer lives,
    which tells `remove_stale` what a killed process left.

    Args:
        path: the file.
        doing: the work, for the error message.
        lasting: flush it to the disk first, so that a power cut leaves the one or the other too;
            that takes milliseconds.
        buffer_bytes: written at once, if it is written without seeking; Python's own by default.

    Raises:
        DiskFull: the disk has no room.
        FlashMemError: another operating system error, translated.
    """
    # Nothing of the name of `path`, which may be as long as names can be.
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        try:
            with temporary.open("x+b", buffering=buffer_bytes) as file:
                with suppress(OSError):  # some network file systems have no locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if lasting:
            _sync_folder(path.parent)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise from_os_error(error, doing) from error


def remove_stale(directory: Path) -> None:
    """Deletes temporary files whose writer was killed; they may be as large as the model.

    A living writer has locked its file, but for the moment after it made it. Where files cannot
    be locked, what nobody wrote to for a day is nobody's.
    """
    for leftover in directory.glob(".*.tmp"):
        with suppress(OSError), leftover.open("rb") as file:
            age_s = time.time() - os.fstat(file.fileno()).st_mtime
            if age_s < _YOUNG_S:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:
                if age_s < _FORGOTTEN_S:
                    continue
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(directory: Path, needed: int, doing: str) -> None:
    """Refuses before any work where a file of `needed` bytes cannot fit.

    Raises:
        DiskFull: with the bytes needed and available.
    """
    try:
        available = shutil.disk_usage(directory).free
    except OSError as error:
        raise from_os_error(error, doing) from error
    if available < needed:
        raise DiskFull(
            f"{doing} needs {format_bytes(needed)} ({needed} bytes) in {directory}, "
            f"{format_bytes(available)} ({available} bytes) are free",
            hint="free some space, or use another disk (FLASHMEM_LAB_CACHE, for packed weights)",
        )


def reserve(file: BinaryIO, size: int) -> None:
    """Takes `size` bytes on the disk now, so that a full disk shows before hours of work.

    Raises:
        OSError: no room. File systems that cannot reserve are let pass: writing will tell.
    """
    if size == 0 or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
