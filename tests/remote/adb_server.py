"""The real adb with a server of the tests' own, and what a phone on loopback says of itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.remote.fake_adbd import Daemon, Phone

COMMANDS = {
    "getprop": """cat <<'END'
[ro.build.fingerprint]: [maker/loop/loop:14/AB1/1:user/keys]
[ro.build.version.release]: [14]
[ro.product.manufacturer]: [Maker]
[ro.product.model]: [Loop One]
[ro.soc.model]: [LOOP8650]
END""",
    "dumpsys": """case $1 in
thermalservice) cat <<'END'
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=20.0, mType=1, mName=GPU0, mStatus=0}
Current temperatures from HAL:
	Temperature{mValue=41.25, mType=1, mName=GPU0, mStatus=0}
	Temperature{mValue=43.5, mType=1, mName=GPU1, mStatus=0}
	Temperature{mValue=36.1, mType=3, mName=skin, mStatus=1}
END
;;
battery) printf '  AC powered: false\\n  USB powered: true\\n  level: 87\\n  temperature: 312\\n';;
esac""",
}
"""What a phone's own commands say."""

_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Adb:
    """The adb program, with a server on a port and in a home of its own.

    Attributes:
        program: its path.
        port: of its server.
        home: where its keys and its server's log go.
    """

    program: str
    port: int
    home: Path

    @classmethod
    def of(cls, home: Path) -> Adb:
        """Debian's adb; its absence is a failure, `make test` installs it."""
        found = shutil.which("adb")
        if found is None:
            pytest.fail("no adb; `make test` installs it (apt-get install adb)")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(found, int(probe.getsockname()[1]), home)

    @property
    def environment(self) -> dict[str, str]:
        """What says so to whoever uses adb."""
        return {
            "FLASHMEM_LAB_ADB": self.program,
            "ADB_SERVER_SOCKET": f"tcp:localhost:{self.port}",
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
        }

    def __call__(self, *words: str) -> str:
        """Runs a command of this server's; what it says."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            [self.program, *words], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    def attach(self, phone: Phone) -> Daemon:
        """Connects a device, and waits until the server knows whether it may be used."""
        daemon = Daemon(phone)
        self("connect", daemon.serial)
        until = time.monotonic() + _SECONDS
        while f"{daemon.serial}\toffline" in self("devices"):
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.05)
        return daemon

    def detach(self, daemon: Daemon) -> None:
        """The device goes, if it has not gone by itself."""
        daemon.close()
        with suppress(subprocess.CalledProcessError):
            self("disconnect", daemon.serial)
