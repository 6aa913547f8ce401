"""Files of a device: adb's sync service (SYNC.TXT). Named files only, no folders, no links."""

from __future__ import annotations

import asyncio
import stat as modes
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from flashmem_lab.errors import DeviceError, from_os_error
from flashmem_lab.runtime.adb.client import REPLY_SECONDS, Client, Connection

Progress = Callable[[int, int], None]
"""Called as progress(done, total), bytes."""

_CHUNK = 64 * 1024  # the most that a sync packet may hold
_LONGEST = 1024  # bytes of a path
_WORDS_SECONDS = 1.0  # for a refusal that is on its way
_WRITE_SECONDS = 120.0  # for flash memory to take what is still on its way
_HEAD = struct.Struct("<4sI")
_STAT = struct.Struct("<4s3I")
_SIZES = 1 << 32  # sizes are told modulo this


@dataclass(frozen=True, slots=True)
class Stat:
    """What a device says of a path, links not followed.

    Attributes:
        mode: type and permissions; 0 where there is nothing.
        size: bytes, modulo 2**32: the protocol's first form, which every device speaks.
    """

    mode: int
    size: int

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file."""
        return modes.S_ISREG(self.mode)

    def has_size(self, size: int) -> bool:
        """Whether it may be `size` bytes long."""
        return self.size == size % _SIZES


async def stat(client: Client, serial: str, path: str) -> Stat:
    """What there is at `path`."""
    async with await client.service(serial, "sync:") as connection:
        return await _stat(connection, _checked(path))


async def push(
    client: Client,
    serial: str,
    local: Path,
    path: str,
    *,
    mode: int = 0o644,
    progress: Progress | None = None,
) -> None:
    """Writes a file to a device, over what is there; its folders are made.

    Raises:
        DeviceError: the device refuses, or goes away.
        FlashMemError: `local` cannot be read.
    """
    name = _checked(path) + b",%d" % (modes.S_IFREG | mode)
    async with await client.service(serial, "sync:") as connection:
        await connection.send(_HEAD.pack(b"SEND", len(name)) + name)
        # A device without room says so at once and may then take nothing more.
        answer = asyncio.create_task(connection.exactly(_HEAD.size, None))
        try:
            with local.open("rb") as file:
                await _send(connection, file, local.stat().st_size, answer, progress)
            async with asyncio.timeout(_WRITE_SECONDS):
                kind, size = _HEAD.unpack(await answer)
        except TimeoutError:
            raise DeviceError(
                f"{serial} did not confirm {path} within {_WRITE_SECONDS:g} s",
                hint="wake the phone, plug it in again",
            ) from None
        except OSError as error:
            raise from_os_error(error, f"copying {local} to {serial}") from error
        finally:
            answer.cancel()
            with suppress(asyncio.CancelledError, DeviceError):
                await answer
        if kind != b"OKAY":
            said = (await connection.exactly(min(size, _CHUNK))).decode("utf-8", "replace")
            raise DeviceError(
                f"{serial} refused {path}: {said}",
                hint="is its storage full? `adb shell df -h /data/local/tmp`",
            )
        await connection.send(_HEAD.pack(b"QUIT", 0))


async def pull(client: Client, serial: str, path: str, sink: BinaryIO, limit: int) -> int:
    """Reads one plain file of a device into `sink`; the bytes that were read.

    Args:
        client: the adb server.
        serial: the device.
        path: of the file there, absolute; where it lies here is not for the device to say.
        sink: what to write to.
        limit: bytes; a longer file is refused, whatever the device says of its size.

    Raises:
        DeviceError: no plain file, longer than `limit`, or the device goes away.
    """
    name = _checked(path)
    done = 0
    async with await client.service(serial, "sync:") as connection:
        if not (await _stat(connection, name)).is_file:
            raise DeviceError(f"{path} on {serial} is not a file")
        await connection.send(_HEAD.pack(b"RECV", len(name)) + name)
        while True:
            kind, size = _HEAD.unpack(await connection.exactly(_HEAD.size))
            if kind == b"DONE":
                return done
            if size > _CHUNK or kind not in (b"DATA", b"FAIL"):
                raise DeviceError(f"{serial} breaks the sync protocol: {kind!r}, {size} bytes")
            data = await connection.exactly(size)
            if kind == b"FAIL":
                raise DeviceError(f"{path} on {serial}: {data.decode('utf-8', 'replace')}")
            done += size
            if done > limit:
                raise DeviceError(f"{path} on {serial} is longer than {limit} bytes")
            sink.write(data)


async def _send(
    connection: Connection,
    file: BinaryIO,
    total: int,
    answer: asyncio.Task[bytes],
    progress: Progress | None,
) -> None:
    """Sends a file's bytes until the device has answered."""
    done = 0
    while not answer.done() and (data := file.read(_CHUNK)):
        try:
            await connection.send(_HEAD.pack(b"DATA", len(data)) + data)
        except DeviceError:
            with suppress(TimeoutError, DeviceError):  # it may have said why before it closed
                await asyncio.wait_for(asyncio.shield(answer), _WORDS_SECONDS)
                return
            raise
        done += len(data)
        if progress is not None:
            progress(done, total)
    if not answer.done():
        await connection.send(_HEAD.pack(b"DONE", int(time.time()) % _SIZES))


async def _stat(connection: Connection, name: bytes) -> Stat:
    await connection.send(_HEAD.pack(b"STAT", len(name)) + name)
    kind, mode, size, _ = _STAT.unpack(await connection.exactly(_STAT.size, REPLY_SECONDS))
    if kind != b"STAT":
        raise DeviceError(f"a device breaks the sync protocol: {kind!r}")
    return Stat(mode, size)


def _checked(path: str) -> bytes:
    """A path that names one file.

    Raises:
        DeviceError: it is relative, climbs, or names a folder.
    """
    name = path.encode("utf-8", "surrogateescape")
    bad = not path.startswith("/") or path.endswith("/") or "\0" in path
    if bad or ".." in PurePosixPath(path).parts or len(name) > _LONGEST:
        raise DeviceError(f"{path!r} is not the path of a file on a device")
    return name
