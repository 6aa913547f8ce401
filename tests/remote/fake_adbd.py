"""A device on loopback for the real adb: its transport, shell v2 and sync, as adbd speaks them.

Its shell is this machine's, with a few of Android's commands before it on the PATH; its files lie
below a folder of the test's. No keys are checked: never for an address that others can reach.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from flashmem_lab.runtime.adb.loop import Loop

_HEAD = struct.Struct("<6I")  # command, two arguments, length, checksum, command inverted
_SYNC = struct.Struct("<4sI")
_PACKET = struct.Struct("<BI")
_VERSION, _MAX_DATA = 0x01000001, 256 * 1024  # of this version on, checksums are not looked at
_TOKEN = 1
_CHUNK = 64 * 1024


def _command(name: bytes) -> int:
    return int.from_bytes(name, "little")


_CNXN, _AUTH, _OPEN, _OKAY, _WRTE, _CLSE = map(
    _command, (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)


@dataclass
class Phone:
    """What the device is and does.

    Attributes:
        root: folder of its files; nothing else can be read or written over sync.
        commands: shell scripts that it has beside this machine's commands, by name.
        allowed: whether somebody accepted the dialog on its screen.
        features: of its daemon.
        room: bytes that a file may have before its storage is full.
        environment: of its processes, beside this machine's.
    """

    root: Path
    commands: Mapping[str, str] = field(default_factory=dict)
    allowed: bool = True
    features: tuple[str, ...] = ("shell_v2", "cmd")
    room: int = 1 << 40
    environment: Mapping[str, str] = field(default_factory=dict)

    def banner(self) -> bytes:
        facts = "ro.product.name=loop;ro.product.model=Loop;ro.product.device=loop;"
        return f"device::{facts}features={','.join(self.features)}".encode()

    def surroundings(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.environment,
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "TMPDIR": str(self.root / "tmp"),
        }

    def path(self, name: str) -> Path:
        """The file of a name, which lies below the root."""
        found = Path(os.path.normpath(name))
        if not found.is_relative_to(self.root):
            raise PermissionError(13, "Permission denied")
        return found


class Daemon:
    """The device's adbd, on a port of loopback that adb does not take for an emulator's.

    Args:
        phone: what it serves.
    """

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        for folder in ("bin", "tmp"):
            (phone.root / folder).mkdir(parents=True, exist_ok=True)
        for name, script in phone.commands.items():
            tool = phone.root / "bin" / name
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)
        self._loop = Loop()
        self._closed = False
        self._links: set[_Link] = set()
        self._server = self._loop.call(self._serve())
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def serial(self) -> str:
        """As `adb connect` names it."""
        return f"127.0.0.1:{self.port}"

    def drop(self) -> None:
        """The cable is pulled: every connection ends, and none is taken any more."""

        async def drop() -> None:
            self._server.close()
            for link in list(self._links):
                link.close()

        self._loop.call(drop())

    def close(self) -> None:
        """Ends it, with every process that it started. May be repeated."""
        if not self._closed:
            self._closed = True
            self.drop()
            self._loop.call(self._over())
            self._loop.close()

    async def _over(self) -> None:
        while self._links:
            await asyncio.sleep(0.01)

    async def _serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._linked, "127.0.0.1", 0, limit=1 << 21)
        port = server.sockets[0].getsockname()[1]
        assert not 5555 <= port <= 5585, "adb looks for emulators there"
        return server

    async def _linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self.phone, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """A connection of an adb server, with many streams in it."""

    def __init__(
        self, phone: Phone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._phone, self._reader, self._writer = phone, reader, writer
        self._streams: dict[int, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)
        self.longest = 4096

    def close(self) -> None:
        self._writer.close()

    async def send(self, command: int, one: int, two: int, data: bytes = b"") -> None:
        head = _HEAD.pack(command, one, two, len(data), sum(data), command ^ 0xFFFFFFFF)
        self._writer.write(head + data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def run(self) -> None:
        try:
            while True:
                command, one, two, size, _, _ = _HEAD.unpack(
                    await self._reader.readexactly(_HEAD.size)
                )
                await self._take(command, one, two, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for stream in self._streams.values():
                stream.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._writer.close()

    async def _take(self, command: int, one: int, two: int, data: bytes) -> None:
        if command in (_CNXN, _AUTH):
            if command == _CNXN:
                self.longest = min(_MAX_DATA, two)
            if self._phone.allowed:
                await self.send(_CNXN, _VERSION, _MAX_DATA, self._phone.banner())
            elif command == _CNXN or one != 3:  # 3: a key to show to people; nobody answers
                await self.send(_AUTH, _TOKEN, 0, bytes(20))
        elif command == _OPEN:
            stream = _Stream(self, next(self._numbers), one)
            self._streams[stream.local] = stream
            name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            task = asyncio.create_task(self._serve(stream, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif (found := self._streams.get(two)) is not None:
            if command == _WRTE:
                found.input.feed_data(data)
                await self.send(_OKAY, two, one)
            elif command == _OKAY:
                found.taken.set()
            elif command == _CLSE:
                found.end()

    async def _serve(self, stream: _Stream, name: str) -> None:
        kind, _, argument = name.partition(":")
        serve: Callable[[], Awaitable[None]]
        if kind.startswith("shell,v2"):
            serve = _Shell(self._phone, stream, argument).run
        elif kind == "sync":
            serve = _Sync(self._phone, stream).run
        else:
            await self.send(_CLSE, 0, stream.remote)
            return
        await self.send(_OKAY, stream.local, stream.remote)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve()
        if not stream.ended:
            await self.send(_CLSE, stream.local, stream.remote)
        self._streams.pop(stream.local, None)


class _Stream:
    """One service's bytes in both directions; one packet on its way at most."""

    def __init__(self, link: _Link, local: int, remote: int) -> None:
        self._link, self.local, self.remote = link, local, remote
        self.input = asyncio.StreamReader(limit=1 << 22)
        self.taken = asyncio.Event()
        self.ended = False
        self._turn = asyncio.Lock()

    def end(self) -> None:
        self.ended = True
        self.taken.set()
        self.input.feed_eof()

    async def write(self, data: bytes) -> None:
        async with self._turn:
            for at in range(0, len(data), self._link.longest):
                if self.ended:
                    raise ConnectionResetError
                self.taken.clear()
                part = data[at : at + self._link.longest]
                await self._link.send(_WRTE, self.local, self.remote, part)
                await self.taken.wait()

    async def head(self, form: struct.Struct) -> tuple[bytes, int]:
        kind, size = form.unpack(await self.input.readexactly(form.size))
        return kind, size


class _Shell:
    """A command in a shell, its streams in packets: input 0, output 1 and 2, code 3, end 4."""

    def __init__(self, phone: Phone, stream: _Stream, command: str) -> None:
        self._phone, self._stream, self._command = phone, stream, command

    async def run(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", self._command),
            cwd=self._phone.root,
            env=self._phone.surroundings(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        feeding = asyncio.create_task(self._feed(process.stdin))
        pumps = [
            asyncio.create_task(self._pump(process.stdout, 1)),
            asyncio.create_task(self._pump(process.stderr, 2)),
        ]
        try:
            await asyncio.gather(*pumps)
            code = await process.wait()
            # As adbd: what a signal ended has 128 and its number, as in a shell.
            await self._say(3, bytes([code if code >= 0 else 128 - code]))
        finally:
            for task in (feeding, *pumps):
                task.cancel()
            await asyncio.gather(feeding, *pumps, return_exceptions=True)
            process.stdin.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            # Its pipes are closed when their end was read, not before.
            await asyncio.gather(process.stdout.read(), process.stderr.read())

    async def _say(self, kind: int, data: bytes) -> None:
        await self._stream.write(_PACKET.pack(kind, len(data)) + data)

    async def _pump(self, reader: asyncio.StreamReader, kind: int) -> None:
        while data := await reader.read(_CHUNK):
            await self._say(kind, data)

    async def _feed(self, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, size = _PACKET.unpack(await self._stream.input.readexactly(_PACKET.size))
                data = await self._stream.input.readexactly(size)
                if kind == 0:
                    writer.write(data)
                    await writer.drain()
                elif kind == 4:
                    writer.close()
        writer.close()  # nobody is at the other end: the process hears the end of its input


class _Sync:
    """Files, one request after another."""

    def __init__(self, phone: Phone, stream: _Stream) -> None:
        self._phone, self._stream = phone, stream

    async def run(self) -> None:
        while True:
            kind, size = await self._stream.head(_SYNC)
            if kind == b"QUIT":
                return
            name = (await self._stream.input.readexactly(size)).decode("utf-8", "surrogateescape")
            try:
                await {b"STAT": self._stat, b"SEND": self._send, b"RECV": self._receive}[kind](name)
            except OSError as error:
                said = (error.strerror or "error").encode()
                await self._stream.write(_SYNC.pack(b"FAIL", len(said)) + said)

    async def _stat(self, name: str) -> None:
        try:
            found = self._phone.path(name).lstat()
            facts = (found.st_mode, found.st_size % (1 << 32), int(found.st_mtime))
        except OSError:
            facts = (0, 0, 0)
        await self._stream.write(struct.pack("<4s3I", b"STAT", *facts))

    async def _send(self, name: str) -> None:
        path, _, mode = name.rpartition(",")
        data = bytearray()
        while (head := await self._stream.head(_SYNC))[0] != b"DONE":
            data += await self._stream.input.readexactly(head[1])
        if len(data) > self._phone.room:
            raise OSError(28, "No space left on device")
        target = self._phone.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(stat.S_IMODE(int(mode)))
        await self._stream.write(_SYNC.pack(b"OKAY", 0))

    async def _receive(self, name: str) -> None:
        data = self._phone.path(name).read_bytes()
        for at in range(0, len(data), _CHUNK):
            part = data[at : at + _CHUNK]
            await self._stream.write(_SYNC.pack(b"DATA", len(part)) + part)
        await self._stream.write(_SYNC.pack(b"DONE", 0))
