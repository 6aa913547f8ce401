"""Machines that can hold files and start agents, and the pipes to an agent that runs.

`Host` and `Link` are all that a run asks of the world; adb is one way to provide them. `LocalHost`
is another: this machine, where an agent is an ordinary child process.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

from flashmem_lab.errors import DeviceError, from_os_error

PushProgress = Callable[[int, int], None]
"""Called as progress(bytes done, bytes in all) while a file is pushed."""

_LOG_BYTES = 4096
_PATIENCE_S = 3.0  # an agent whose input has ended leaves when its kernel is over
_ABIS = {"x86_64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}


class LinkClosed(DeviceError):
    """The agent is gone: it ended, was killed, or the connection to it broke.

    Args:
        how: its end, "exit code 1", "killed by signal 9", "the connection broke".
        said: the tail of its log, "" if it said nothing.
    """

    def __init__(self, how: str, said: str = "") -> None:
        last = said.strip().splitlines()[-1:]
        super().__init__(
            f"the agent on the device ended ({how})" + "".join(f": {line}" for line in last),
            hint="run again: a new agent is started; `flashmem-lab doctor` says what the device "
            "still can do",
        )
        self.how = how
        self.said = said


class Link(Protocol):
    """A running agent; one thread may read while another one writes."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes of what it writes; blocks until they are there.

        Raises:
            LinkClosed: it ended before that.
        """
        ...

    def write(self, data: bytes) -> None:
        """Gives it `data`, all of it.

        Raises:
            LinkClosed: it takes no more.
        """
        ...

    def log(self) -> str:
        """The tail of what it wrote on stderr."""
        ...

    def close(self) -> None:
        """Ends its input, waits a bounded time for it to end, then kills it. May be repeated."""
        ...


class Host(Protocol):
    """A machine that can hold files and start agents."""

    @property
    def serial(self) -> str:
        """Its name in device ids, the SERIAL of `adb:SERIAL`."""
        ...

    @property
    def abi(self) -> str:
        """ABI of its processes, as Android calls it: "arm64-v8a", "x86_64"."""
        ...

    @property
    def android(self) -> bool:
        """Whether it is Android, whose programs are linked otherwise than those of Linux."""
        ...

    @property
    def folder(self) -> str:
        """Absolute path on it under which our files lie."""
        ...

    def has(self, path: str, size: int) -> bool:
        """Whether there is a file of `size` bytes at `path`."""
        ...

    def push(self, local: Path, path: str, progress: PushProgress | None = None) -> None:
        """Copies `local` to `path`, whole or not at all, with its permissions; makes folders.

        Raises:
            DeviceError: the machine has no room, or is gone.
        """
        ...

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        ...

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Link:
        """Starts a program of the machine, with `env` beside its usual environment.

        Raises:
            DeviceError: it cannot be started.
        """
        ...

    def health(self) -> Mapping[str, str]:
        """How warm it is and what else is worth a note beside a run; nothing where it says none."""
        ...


def local_abi() -> str:
    """The ABI of this machine, as Android calls it, or else the machine's own word for it."""
    machine = platform.machine()
    return _ABIS.get(machine, machine)


class LocalLink:
    """An agent that is a child process of this one.

    Args:
        argv, env: what to start.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._log: IO[bytes] = TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        try:
            self._child = subprocess.Popen(
                list(argv),
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is ours: the agent is told by its input
            )
        except OSError as error:
            self._log.close()
            raise from_os_error(error, f"starting {argv[0]}") from error
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._input, self._output = self._child.stdin, self._child.stdout
        self._closing = threading.Lock()
        self._said = ""

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def read(self, size: int) -> bytes:
        """See `Link.read`."""
        try:
            data = self._output.read(size)
        except (OSError, ValueError):  # ValueError: closed by another thread
            data = b""
        if len(data) != size:
            raise self._closed()
        return data

    def write(self, data: bytes) -> None:
        """See `Link.write`."""
        try:
            self._input.write(data)
            self._input.flush()
        except (OSError, ValueError) as error:
            raise self._closed() from error

    def log(self) -> str:
        """See `Link.log`."""
        if self._log.closed:
            return self._said
        descriptor = self._log.fileno()
        size = os.fstat(descriptor).st_size
        start = max(0, size - _LOG_BYTES)
        return os.pread(descriptor, _LOG_BYTES, start).decode(errors="replace")

    def close(self) -> None:
        """See `Link.close`."""
        with self._closing:
            if self._log.closed:
                return
            with suppress(OSError):
                self._input.close()
            try:
                self._child.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._output.close()
            self._said = self.log()
            self._log.close()

    def _closed(self) -> LinkClosed:
        try:
            code = self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return LinkClosed("its pipes are closed", self.log())
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return LinkClosed(how, self.log())


class LocalHost:
    """This machine as one that runs agents; its "device" is whatever OpenCL it has.

    Args:
        folder: where pushed files go.
        serial: its name in device ids.
    """

    def __init__(self, folder: Path, serial: str = "local") -> None:
        self.serial = serial
        self.abi = local_abi()
        self.android = False
        self.folder = str(folder)

    def has(self, path: str, size: int) -> bool:
        """See `Host.has`."""
        try:
            return Path(path).stat().st_size == size
        except OSError:
            return False

    def push(self, local: Path, path: str, progress: PushProgress | None = None) -> None:
        """See `Host.push`."""
        target = Path(path)
        half = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(local, half)
            half.replace(target)
            size = target.stat().st_size
        except OSError as error:
            half.unlink(missing_ok=True)
            raise from_os_error(error, f"copying {local.name} to {target.parent}") from error
        if progress is not None:
            progress(size, size)

    def remove(self, path: str) -> None:
        """See `Host.remove`."""
        Path(path).unlink(missing_ok=True)

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> LocalLink:
        """See `Host.start`."""
        return LocalLink(argv, env)

    def health(self) -> Mapping[str, str]:
        """See `Host.health`."""
        return {}
