"""What a machine behind adb says of itself before an agent runs on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.client import Client

_FOLDER = "flashmem-lab"  # below the first folder that can be written
# One round trip. A machine without getprop is no Android: a board with Linux and an adb daemon.
_SCRIPT = """
getprop 2>/dev/null
echo "[uname]: [$(uname -m)]"
for folder in /data/local/tmp "$TMPDIR" /tmp; do
  if [ -d "$folder" ] && [ -w "$folder" ]; then echo "[folder]: [$folder]"; break; fi
done
"""
_PROPERTY = re.compile(r"^\[(?P<name>[^\]\n]+)\]: \[(?P<value>.*?)\]$", re.MULTILINE | re.DOTALL)
_MACHINES = {"aarch64": "arm64-v8a", "armv8l": "armeabi-v7a", "armv7l": "armeabi-v7a"}
_SOC = ("ro.soc.model", "ro.board.platform", "ro.hardware")


@dataclass(frozen=True, slots=True)
class Facts:
    """A machine behind adb.

    Attributes:
        model: "Google Pixel 8"; "" where it does not say.
        soc: name of its chip, "" where it does not say.
        abi: of its processes: "arm64-v8a", "x86_64", ...
        system: "Android 14", or "Linux".
        build: what changes when its system, and so its drivers, are updated.
        folder: where our files go, absolute.
    """

    model: str
    soc: str
    abi: str
    system: str
    build: str
    folder: str


def parse_facts(serial: str, said: str) -> Facts:
    """Reads what the script said.

    Raises:
        DeviceError: it has no folder that can be written.
    """
    known = {one["name"]: one["value"].strip() for one in _PROPERTY.finditer(said)}
    if not known.get("folder", "").startswith("/"):
        raise DeviceError(
            f"{serial} has no folder that can be written to, neither /data/local/tmp nor /tmp",
            hint="`adb shell ls -ld /data/local/tmp` shows whether that folder is there",
        )
    release = known.get("ro.build.version.release", "")
    return Facts(
        model=_model(known),
        soc=next((known[name] for name in _SOC if known.get(name)), ""),
        abi=known.get("ro.product.cpu.abi") or _MACHINES.get(known["uname"], known["uname"]),
        system=f"Android {release}" if release else "Linux",
        build=known.get("ro.build.fingerprint", ""),
        folder=f"{known['folder'].rstrip('/')}/{_FOLDER}",
    )


async def read_facts(client: Client, serial: str) -> Facts:
    """Asks a device.

    Raises:
        DeviceError: it cannot be used; the message says why.
    """
    if "shell_v2" not in await client.features(serial):
        raise DeviceError(
            f"{serial} is too old: its adb daemon cannot keep the streams of a program apart",
            hint="Android 8 or newer is needed",
        )
    done = await client.run(serial, ["sh", "-c", _SCRIPT])
    return parse_facts(serial, done.stdout.decode("utf-8", "replace"))


def _model(known: Mapping[str, str]) -> str:
    """Maker and model, the maker once."""
    maker = known.get("ro.product.manufacturer", "")
    model = known.get("ro.product.model", "")
    if model.lower().startswith(maker.lower()):
        return model
    return f"{maker} {model}".strip()
