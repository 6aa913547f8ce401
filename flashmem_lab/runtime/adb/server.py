"""The adb server of this computer: where it listens, and how it is started when it does not run.

It belongs to the user, who may have other tools on it: it is started as `adb devices` would, and
never stopped or replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashmem_lab.errors import DeviceError

NONE = "none"
"""Value of $FLASHMEM_LAB_ADB that leaves adb alone."""

INSTALL = "apt-get install adb (Debian), or Android's platform-tools on the PATH"

_OURS = "FLASHMEM_LAB_ADB"
_HERE = "127.0.0.1"
_PORT = 5037  # adb's own default
_START_SECONDS = 20  # a first start looks at every USB device
_SOCKET = re.compile(r"tcp:(?:(?:\[(?P<six>.+)\]|(?P<host>[^:\[\]]+)):)?(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the adb server listens.

    Attributes:
        host, port: over TCP.
        path: of a Unix socket instead, if not ""; one that begins with NUL is in Linux' abstract
            namespace.
    """

    host: str = _HERE
    port: int = _PORT
    path: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is on this computer, so that it can be started."""
        return bool(self.path) or self.host in (_HERE, "localhost", "::1")

    def __str__(self) -> str:
        return self.path.replace("\0", "@") or f"{self.host}:{self.port}"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Address:
        """As `adb` itself reads ADB_SERVER_SOCKET, ANDROID_ADB_SERVER_ADDRESS and _PORT.

        Raises:
            DeviceError: a variable is not an address.
        """
        if given := environ.get("ADB_SERVER_SOCKET"):
            if given.startswith("localfilesystem:"):
                return cls(path=given.partition(":")[2])
            if given.startswith("localabstract:"):
                return cls(path="\0" + given.partition(":")[2])
            if (found := _SOCKET.fullmatch(given)) and int(found["port"]) < 1 << 16:
                host = found["six"] or found["host"] or _HERE
                return cls(_HERE if host == "localhost" else host, int(found["port"]))
            raise _not_an_address("ADB_SERVER_SOCKET", given, "tcp:127.0.0.1:5037")
        port = environ.get("ANDROID_ADB_SERVER_PORT") or str(_PORT)
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise _not_an_address("ANDROID_ADB_SERVER_PORT", port, str(_PORT))
        return cls(environ.get("ANDROID_ADB_SERVER_ADDRESS") or _HERE, int(port))


def find_adb(environ: Mapping[str, str]) -> str:
    """Path of the adb program: $FLASHMEM_LAB_ADB, on the PATH, or in an Android SDK; "" if none."""
    if given := environ.get(_OURS):
        return "" if given == NONE else given
    if found := shutil.which("adb", path=environ.get("PATH")):
        return str(Path(found))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        tool = Path(environ.get(name) or "/nonexistent", "platform-tools", "adb")
        if os.access(tool, os.X_OK):
            return str(tool)
    return ""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether phones are to be looked for at all."""
    return environ.get(_OURS) != NONE


def start_server(address: Address, environ: Mapping[str, str]) -> None:
    """Starts the server, which must not be running: an `adb` of another version would replace it.

    Raises:
        DeviceError: it is elsewhere, there is no adb program, or that fails.
    """
    if not address.is_here:
        raise DeviceError(
            f"no adb server answers at {address}",
            hint="start it there, or unset ADB_SERVER_SOCKET and ANDROID_ADB_SERVER_ADDRESS",
        )
    adb = find_adb(environ)
    if not adb:
        raise DeviceError("there is no adb on this computer to reach a phone with", hint=INSTALL)
    # Into a file: the server keeps what it inherits open, and a pipe would never end.
    with tempfile.TemporaryFile() as log:
        try:
            code = subprocess.run(
                [adb, "start-server"],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_START_SECONDS,
                check=False,
                start_new_session=True,  # Ctrl-C in a terminal here is not for the user's server
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"{adb} start-server failed: {error}", hint=INSTALL) from error
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if code:
        raise DeviceError(
            f"{adb} start-server failed (exit code {code})" + "".join(f": {x}" for x in said[-1:]),
            hint="run it in a terminal to see why",
        )


def _not_an_address(name: str, value: str, example: str) -> DeviceError:
    return DeviceError(f"{name} is {value!r}, which is no address", hint=f"such as {example}")
