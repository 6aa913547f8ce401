"""How warm a phone is and what its battery has, beside each run: both change its clocks.

What cannot be read is left out: most of it needs no root on Android, some makers keep it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.client import Client

_SECONDS = 4.0
# `read`, not `cat`: a phone has up to a hundred zones, and each process takes milliseconds.
_SCRIPT = """
for zone in /sys/class/thermal/thermal_zone*; do
  read -r kind <"$zone/type" && read -r heat <"$zone/temp" && echo "zone $heat $kind"
done
echo "==thermal"; dumpsys thermalservice
echo "==battery"; dumpsys battery
"""
_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_ZONE = re.compile(r"^zone (?P<heat>-?\d+) (?P<name>\S+)$", re.MULTILINE)
_HAL = re.compile(
    r"Temperature\{mValue=(?P<heat>-?[\d.]+), mType=(?P<type>\d+), mName=(?P<name>\w+)"
)
_TYPES = {"0": "CPU", "1": "GPU", "3": "skin"}  # of Android's thermal service
_ABSURD = 150.0  # degrees Celsius: a zone that says more, or less than 0, measures something else


async def read_health(client: Client, serial: str) -> dict[str, str]:
    """What can be read: "thermal" and "battery", each in words; nothing where that fails."""
    try:
        done = await client.run(serial, ["sh", "-c", f"exec 2>/dev/null\n{_SCRIPT}"], _SECONDS)
    except DeviceError:
        return {}  # nobody's run fails because nobody knows how warm it was
    return parse_health(done.stdout.decode("utf-8", "replace"))


def parse_health(said: str) -> dict[str, str]:
    """Reads what the script said."""
    zones, _, rest = said.partition("==thermal")
    service, _, battery = rest.partition("==battery")
    found = {
        "thermal": ", ".join(_thermal(zones, service)),
        "battery": ", ".join(_battery(battery)),
    }
    return {name: text for name, text in found.items() if text}


def _thermal(zones: str, service: str) -> Iterator[str]:
    """Whether Android holds the clocks back, and the temperatures that it goes by."""
    if status := re.search(r"Thermal Status: (\d)", service):
        at = int(status[1])
        yield f"throttling {_STATUS[at] if at < len(_STATUS) else at}"
    # The cached list comes first and may be old.
    current = service.rpartition("Current temperatures from HAL")[2]
    highest: dict[str, float] = {}
    for one in _HAL.finditer(current):
        if kind := _TYPES.get(one["type"]):
            highest[kind] = max(highest.get(kind, 0.0), float(one["heat"]))
    yield from (f"{kind} {heat:.1f} °C" for kind, heat in highest.items())
    if not highest:
        heats = [(int(one["heat"]) / 1000, one["name"]) for one in _ZONE.finditer(zones)]
        if sound := [one for one in heats if 0 < one[0] < _ABSURD]:
            heat, name = max(sound)
            yield f"hottest zone {name} {heat:.1f} °C"


def _battery(said: str) -> Iterator[str]:
    known = dict(re.findall(r"^\s*([\w ]+): (\S+)$", said, re.MULTILINE))
    if known.get("level", "").isdecimal():
        yield f"{known['level']} %"
    if known.get("temperature", "").isdecimal():
        yield f"{int(known['temperature']) / 10:.1f} °C"  # told in tenths
    powered = [name.removesuffix(" powered") for name in known if name.endswith(" powered")]
    yield from (f"on {name}" for name in powered if known[f"{name} powered"] == "true")
