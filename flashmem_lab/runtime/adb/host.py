"""A machine behind adb as a `Host`: its files, and agents in shells; for callers that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb import sync
from flashmem_lab.runtime.adb.client import EXIT, STDERR, STDOUT, Client, Shell
from flashmem_lab.runtime.adb.facts import Facts, read_facts
from flashmem_lab.runtime.adb.health import read_health
from flashmem_lab.runtime.adb.link import LinkClosed, PushProgress
from flashmem_lab.runtime.adb.loop import Loop, shared_loop

_LOG_BYTES = 4096
_ROOM_BYTES = 8 << 20  # read ahead of whoever reads; then the agent waits
_PATIENCE_S = 3.0  # an agent whose input has ended leaves when its kernel is over
# The first line on stderr is the process' id: an agent that hangs in a driver hears nobody.
_WRAPPER = 'echo "$$" >&2; exec "$@"'


class AdbHost:
    """A machine behind adb; see `Host`.

    Args:
        serial: as the adb server calls it.
        client: of the server; by default the user's.

    Raises:
        DeviceError: it cannot be used; the message says why and what to do.
    """

    def __init__(self, serial: str, client: Client | None = None) -> None:
        self._client = client or Client()
        self._loop = shared_loop()
        self.serial = serial
        self.facts: Facts = self._loop.call(read_facts(self._client, serial))

    @property
    def abi(self) -> str:
        """See `Host.abi`."""
        return self.facts.abi

    @property
    def android(self) -> bool:
        """See `Host.android`."""
        return self.facts.system.startswith("Android")

    @property
    def folder(self) -> str:
        """See `Host.folder`."""
        return self.facts.folder

    def has(self, path: str, size: int) -> bool:
        """See `Host.has`. Sizes are compared modulo 2**32, which is all that every device tells."""
        found = self._loop.call(sync.stat(self._client, self.serial, path))
        return found.is_file and found.has_size(size)

    def push(self, local: Path, path: str, progress: PushProgress | None = None) -> None:
        """See `Host.push`."""
        half = f"{path}.{uuid4().hex[:8]}.part"  # another process may push the same file
        mode = local.stat().st_mode & 0o777
        copied = sync.push(self._client, self.serial, local, half, mode=mode, progress=progress)
        try:
            self._loop.call(copied)
            # Daemons differ in which permissions they keep.
            self._run("chmod", f"{mode:o}", half)
            self._run("mv", "-f", half, path)
        except BaseException:
            with suppress(DeviceError):
                self.remove(half)
            raise

    def remove(self, path: str) -> None:
        """See `Host.remove`."""
        self._run("rm", "-f", path)

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> ShellLink:
        """See `Host.start`."""
        words = ["sh", "-c", _WRAPPER, "sh", *argv]
        shell = self._loop.call(self._client.shell(self.serial, words, env))
        return ShellLink(self._loop, self._client, shell, self.serial)

    def health(self) -> dict[str, str]:
        """How warm it is and what its battery has; see `read_health`."""
        return self._loop.call(read_health(self._client, self.serial))

    def _run(self, *argv: str) -> None:
        done = self._loop.call(self._client.run(self.serial, argv))
        if done.code:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise DeviceError(
                f"{argv[0]} on {self.serial} failed: {said or f'exit code {done.code}'}"
            )


class DeviceGone(LinkClosed):
    """The device went away while an agent worked on it.

    Args:
        where: what became of it, "R5CT is not connected any more".
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.message = f"the device went away amid its work: {where}"
        self.hint = "connect it again; `flashmem-lab devices` lists what is there"


class ShellLink:
    """An agent in a shell of a device; see `Link`.

    Args:
        loop: where the connection lives.
        client: of the server.
        shell: the agent's, as `AdbHost.start` makes it.
        serial: of its device.
    """

    def __init__(self, loop: Loop, client: Client, shell: Shell, serial: str) -> None:
        self._loop, self._client, self._shell, self._serial = loop, client, shell, serial
        self._changed = threading.Condition()  # of the next three
        self._output = bytearray()
        self._said = b""
        self._end: LinkClosed | None = None  # how it ended
        self._pid = b""
        self._closing = False
        self._room = asyncio.Event()
        self._pump = loop.start(self._listen())

    def read(self, size: int) -> bytes:
        """See `Link.read`."""
        data = bytearray()
        while len(data) < size:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._output) or self._end is not None)
                if not self._output:
                    assert self._end is not None, "else there is output"
                    raise self._end
                wanted = size - len(data)
                data += self._output[:wanted]
                del self._output[:wanted]
            self._loop.soon(self._room.set)
        return bytes(data)

    def write(self, data: bytes) -> None:
        """See `Link.write`."""
        try:
            self._loop.call(self._shell.write(data))
        except DeviceError as error:
            self._wait()  # its exit code may still be on its way
            raise self._end or DeviceGone(f"{self._serial}: {error.message}") from error

    def log(self) -> str:
        """See `Link.log`."""
        return self._said.decode("utf-8", "replace")

    def close(self) -> None:
        """See `Link.close`."""
        self._closing = True  # what it still says is for nobody
        self._loop.soon(self._room.set)
        with suppress(DeviceError):
            self._loop.call(self._shell.end_input())
        self._wait()
        if self._end is None and self._pid.isdigit():
            with suppress(DeviceError):
                kill = ["kill", "-9", self._pid.decode()]
                self._loop.call(self._client.run(self._serial, kill, _PATIENCE_S))
        self._loop.soon(self._shell.close)
        self._pump.cancel()

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._end is not None, _PATIENCE_S)

    async def _listen(self) -> None:
        """Takes what the agent says until it ends; in the loop's thread."""
        end = LinkClosed("nobody listens to it any more")
        try:
            async for kind, data in self._shell.packets():
                if kind == EXIT:
                    end = LinkClosed(_ended(data), self.log())
                elif kind == STDERR:
                    self._hear(data)
                elif kind == STDOUT and not self._closing:
                    with self._changed:
                        self._output += data
                        self._changed.notify_all()
                    while len(self._output) > _ROOM_BYTES and not self._closing:
                        self._room.clear()
                        await self._room.wait()
        except DeviceError:
            end = DeviceGone(await self._whereabouts())
        finally:
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def _hear(self, data: bytes) -> None:
        said = self._said + data
        if not self._pid and b"\n" in said:
            self._pid, _, said = said.partition(b"\n")
        self._said = said[-_LOG_BYTES:]

    async def _whereabouts(self) -> str:
        """What became of the device whose connection was closed."""
        try:
            states = {one.serial: one.state for one in await self._client.devices(start=False)}
        except DeviceError:
            return "the adb server was stopped"
        state = states.get(self._serial)
        if state == "device":
            return f"the connection to {self._serial} was closed"
        return (
            f"{self._serial} is {state}" if state else f"{self._serial} is not connected any more"
        )


def _ended(data: bytes) -> str:
    code = data[0] if data else 0
    # Shells give 128 and the signal's number to what a signal ended.
    return f"killed by signal {code - 128}" if code > 128 else f"exit code {code}"
