"""A client of the adb server's protocol: devices, services of a device, shells; asyncio.

The formats are those of adb's own OVERVIEW.TXT, SERVICES.TXT and shell_protocol.h. Pure Python over
a socket: no driver is loaded, so it may live in any process. Files are in `sync`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.server import Address, start_server

REPLY_SECONDS = 15.0
"""How long the server or a device may take to answer where nothing long is asked."""

_CONNECT_SECONDS = 5.0
_BUFFER_BYTES = 1 << 22
_LONGEST = 0xFFFF  # a service's length has four hexadecimal digits
_KEPT_BYTES = 1 << 20  # of what a short command says
_PACKET = struct.Struct("<BI")
_STDIN, STDOUT, STDERR, EXIT, _END_OF_INPUT = range(5)
_STATES = "device|offline|unauthorized|authorizing|connecting|bootloader|recovery|sideload|rescue"
_LISTED = re.compile(
    # Names that mDNS made may hold spaces: "adb-1234 (2)._adb-tls-connect._tcp".
    rf"(?P<serial>\S.*?)\s+(?P<state>no permissions.*?|{_STATES}|host|detached|unknown)"
    r"(?P<facts>(?:\s+(?:[\w-]+:\S*|\d[\d.:-]*))*)\s*"
)


@dataclass(frozen=True, slots=True)
class Attached:
    """A device as the server lists it.

    Attributes:
        serial: its id, of which the server may know two devices.
        state: "device" where it can be used; else "unauthorized", "offline", ...
        facts: "model", "product", "transport_id", ... where the server knows them.
    """

    serial: str
    state: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command on a device said, and its exit code."""

    stdout: bytes
    stderr: bytes
    code: int


def trouble(serial: str, state: str) -> DeviceError | None:
    """What is wrong with a device in `state`, and what to do; None for one that can be used."""
    if state == "device":
        return None
    known = (told for words, *told in _TROUBLES if any(word in state for word in words))
    message, hint = next(known, (f"cannot be used (adb says: {state})", "`adb devices -l`"))
    return DeviceError(f"{serial} {message}", hint=hint)


_ALLOW = 'unlock the phone and accept its dialog "Allow USB debugging?", then try again'
_TROUBLES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("unauthorized",), "has not allowed this computer to use it", _ALLOW),
    (("authorizing",), "asks whether this computer may use it", _ALLOW),
    (
        ("permission",),
        "may not be opened by this user (USB permissions)",
        "apt-get install android-sdk-platform-tools-common, join the group plugdev, log in again "
        "and plug the phone in again",
    ),
    (
        ("offline", "connecting"),
        "does not answer (offline)",
        "wake it and plug it in again; over Wi-Fi: `adb connect` once more",
    ),
    (
        ("bootloader", "recovery", "sideload", "rescue"),
        "is not running Android (bootloader or recovery)",
        "start it as usual",
    ),
    (
        ("more than one",),
        "is the id of more than one device",
        "unplug or disconnect one of them; a phone on USB and Wi-Fi at once has two ids, either "
        "will do",
    ),
    (("not found",), "is not there", "`flashmem-lab devices` lists those that are"),
)
"""Words in a device's state, or in the server's refusal: what is wrong, what to do."""


def command_line(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The text that a device's shell reads as exactly these words; the only maker of such text.

    Raises:
        DeviceError: a word cannot be said to a shell.
    """
    settings = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
    text = " ".join([*settings, shlex.join(argv)])
    if "\0" in text or any(not name.isidentifier() for name in env or {}):
        raise DeviceError(f"{text!r} cannot be a command on a device")
    return text


def parse_devices(listing: str) -> list[Attached]:
    """Reads the server's long listing; lines of a form that is not known are left out."""
    found = (_LISTED.fullmatch(line) for line in listing.splitlines())
    return [
        Attached(
            one["serial"],
            one["state"],
            {
                name: value
                for name, _, value in (fact.partition(":") for fact in one["facts"].split())
            },
        )
        for one in found
        if one
    ]


class Connection:
    """A connection to a service; `async with` closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes it; what waits for it ends with an error."""
        self._writer.close()

    async def send(self, data: bytes | memoryview) -> None:
        """Sends; waits where the other side takes nothing more."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise _gone() from error

    async def exactly(self, size: int, seconds: float | None = REPLY_SECONDS) -> bytes:
        """The next `size` bytes.

        Raises:
            DeviceError: the other side closed, or said nothing for so long.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.readexactly(size)
        except TimeoutError:
            raise DeviceError(
                f"adb gave no answer for {seconds:g} s", hint="wake the phone, plug it in again"
            ) from None
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _gone() from error

    async def text(self, seconds: float | None = REPLY_SECONDS) -> str:
        """A string with its length before it, in four hexadecimal digits."""
        digits = await self.exactly(4, seconds)
        try:
            size = int(digits, 16)
        except ValueError:
            raise _no_server(digits) from None
        return (await self.exactly(size)).decode("utf-8", "replace")

    async def ask(self, service: str, serial: str = "") -> None:
        """Asks for a service; the connection is then that service's.

        Raises:
            DeviceError: it is refused, of the device `serial` if one is named.
        """
        data = service.encode("utf-8", "surrogateescape")
        if len(data) > _LONGEST:
            raise DeviceError(f"a command of {len(data)} bytes is too long for adb")
        await self.send(b"%04x" % len(data) + data)
        answer = await self.exactly(4)
        if answer == b"FAIL":
            said = (await self.text()).strip()
            known = any(word in said for words, *_ in _TROUBLES for word in words)
            raise (trouble(serial, said) if serial and known else None) or DeviceError(
                f"adb refused {service.partition(' ')[0][:40]!r}: {said}"
            )
        if answer != b"OKAY":
            raise _no_server(answer)


class Shell:
    """A command that runs on a device, its streams apart (shell protocol, version 2)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, data: bytes | memoryview) -> None:
        """Gives the command input."""
        await self._connection.send(b"".join((_PACKET.pack(_STDIN, len(data)), data)))

    async def end_input(self) -> None:
        """Closes the command's input."""
        await self._connection.send(_PACKET.pack(_END_OF_INPUT, 0))

    async def packets(self, seconds: float | None = None) -> AsyncIterator[tuple[int, bytes]]:
        """What it says, as (STDOUT or STDERR, bytes), and at last (EXIT, one byte).

        Args:
            seconds: how long it may say nothing.

        Raises:
            DeviceError: the device went away before the command ended.
        """
        kind = -1
        while kind != EXIT:
            kind, size = _PACKET.unpack(await self._connection.exactly(_PACKET.size, seconds))
            yield kind, await self._connection.exactly(size, seconds)

    def close(self) -> None:
        """Ends it: its input ends, and nobody listens any more."""
        self._connection.close()


class Client:
    """What can be asked of the adb server.

    Args:
        address: where it listens; by default as adb's own environment variables say.
    """

    def __init__(self, address: Address | None = None) -> None:
        self.address = address or Address.of(os.environ)

    async def connect(self, *, start: bool = True) -> Connection:
        """A connection on which nothing was asked yet.

        Args:
            start: whether to start a server where none runs.

        Raises:
            DeviceError: there is none, and none can be started.
        """
        try:
            return await self._connected()
        except OSError:
            if not start:
                raise DeviceError(f"no adb server runs at {self.address}") from None
        failed: DeviceError | None = None
        try:
            await asyncio.to_thread(start_server, self.address, os.environ)
        except DeviceError as error:
            failed = error  # another process may have started one at the same moment
        try:
            return await self._connected()
        except OSError as error:
            raise failed or DeviceError(
                f"the adb server was started and does not answer at {self.address}: {error}"
            ) from error

    async def devices(self, *, start: bool = True) -> list[Attached]:
        """The devices that there are now.

        Args:
            start: see `connect`.

        Raises:
            DeviceError: no server, or it ended.
        """
        async with await self.connect(start=start) as connection:
            await connection.ask("host:devices-l")
            return parse_devices(await connection.text())

    async def track(self, *, start: bool = True) -> AsyncIterator[list[Attached]]:
        """The devices now, and again whenever one comes or goes.

        Servers do not tell of every change in between: seen of version 29 is that "offline" became
        "unauthorized" without a word.

        Args:
            start: see `connect`.

        Raises:
            DeviceError: the server ended.
        """
        async with await self.connect(start=start) as connection:
            await connection.ask("host:track-devices-l")
            while True:
                yield parse_devices(await connection.text(None))

    async def features(self, serial: str) -> frozenset[str]:
        """What a device's daemon can do: "shell_v2", ..."""
        async with await self.connect() as connection:
            await connection.ask(f"host-serial:{serial}:features", serial)
            return frozenset((await connection.text()).split(","))

    async def service(self, serial: str, service: str) -> Connection:
        """A connection to a service of a device, such as "sync:".

        Raises:
            DeviceError: the device cannot be used; the message says why.
        """
        connection = await self.connect()
        try:
            await connection.ask(f"host:transport:{serial}", serial)
            await connection.ask(service, serial)
        except BaseException:
            connection.close()
            raise
        return connection

    async def shell(
        self, serial: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Shell:
        """Starts a command on a device, whose words arrive as they are here."""
        return Shell(await self.service(serial, f"shell,v2,raw:{command_line(argv, env)}"))

    async def run(
        self, serial: str, argv: Sequence[str], seconds: float = REPLY_SECONDS
    ) -> Finished:
        """Runs a short command to its end, with no input.

        Raises:
            DeviceError: it took longer than `seconds`, or said more than a megabyte.
        """
        said = {STDOUT: bytearray(), STDERR: bytearray()}
        code = -1
        shell = await self.shell(serial, argv)
        try:
            async with asyncio.timeout(seconds):
                await shell.end_input()
                async for kind, data in shell.packets():
                    if kind == EXIT:
                        code = data[0] if data else code
                    elif kind in said:
                        said[kind] += data
                        if len(said[kind]) > _KEPT_BYTES:
                            raise DeviceError(f"{argv[0]} on {serial} says too much")
        except TimeoutError:
            raise DeviceError(
                f"{argv[0]} on {serial} took longer than {seconds:g} s",
                hint="wake the phone, or plug it in again",
            ) from None
        finally:
            shell.close()
        return Finished(bytes(said[STDOUT]), bytes(said[STDERR]), code)

    async def _connected(self) -> Connection:
        address = self.address
        async with asyncio.timeout(_CONNECT_SECONDS):
            if address.path:
                pair = await asyncio.open_unix_connection(address.path, limit=_BUFFER_BYTES)
            else:
                pair = await asyncio.open_connection(
                    address.host, address.port, limit=_BUFFER_BYTES
                )
        return Connection(*pair)


def _gone() -> DeviceError:
    return DeviceError(
        "the connection to the device was closed",
        hint="was it unplugged, or the adb server stopped? `flashmem-lab devices` lists what is "
        "there",
    )


def _no_server(said: bytes) -> DeviceError:
    return DeviceError(
        f"what answers is no adb server: it said {said!r}",
        hint="see ADB_SERVER_SOCKET and ANDROID_ADB_SERVER_PORT",
    )
