"""Profiles as files: one of each device in the user's cache, and any that people send around."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from flashmem_lab.device.spec import NO_HOST, DeviceSpec
from flashmem_lab.device.tuning import Tuning
from flashmem_lab.errors import DeviceError, UsageError, from_os_error
from flashmem_lab.folders import cache_directory
from flashmem_lab.program import kernels_digest
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.write import write_file

SCHEMA = "flashmem-lab/device/1"


def refuse_others_file(path: Path) -> None:
    """Looks whether a profile may be written to `path`; measuring takes minutes.

    Raises:
        UsageError: something else is at `path`.
    """
    if path.exists():
        try:
            load_profile(path)
        except DeviceError:
            raise UsageError(
                f"{path} exists and is not a device profile; it is left alone",
                hint="choose another name",
            ) from None


def save_profile(device: DeviceSpec, path: Path) -> None:
    """Writes a measured device; an older profile at `path` is replaced.

    Raises:
        UsageError: something else is at `path`.
        DiskFull: no room.
    """
    refuse_others_file(path)
    data = {"schema": SCHEMA, **to_plain(device)}
    write_file(path, json.dumps(data, indent=1) + "\n", "writing the profile")


def load_profile(path: Path) -> DeviceSpec:
    """The device that `save_profile` wrote.

    Raises:
        DeviceError: missing, damaged, or something else.
    """
    hint = "make one: flashmem-lab profile --device ocl:0 -o device.json"
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DeviceError(f"there is no device profile {path}", hint=hint) from None
    except OSError as error:
        raise from_os_error(error, "reading the profile") from error
    except (ValueError, RecursionError):
        raise DeviceError(f"{path} is not a device profile: not JSON", hint=hint) from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise DeviceError(f"{path} is not a device profile", hint=hint)
    try:
        return from_plain({key: data[key] for key in data if key != "schema"}, DeviceSpec)
    except ValueError as error:
        raise DeviceError(f"{path} is damaged at {error}", hint=hint) from None


def stored_profile(device: DeviceSpec) -> Path:
    """Where the profile of a device lies in the user's cache; each driver has its own."""
    digest = hashlib.sha256(f"{device.name}\n{device.driver}".encode()).hexdigest()[:16]
    return cache_directory() / f"device-{digest}.json"


def as_measured(device: DeviceSpec) -> DeviceSpec:
    """A device that was found, with the rates of its stored profile, if there is a sound one."""
    path = stored_profile(device)
    if not path.exists():
        return device
    try:
        measured = load_profile(path)
    except DeviceError:
        return device  # of an older version; the next `flashmem-lab profile` replaces it
    # What is asked of the driver comes from the driver; the rest is what was measured, tiles with
    # these very kernels.
    tuned = measured.tuning if measured.tuning.kernels == kernels_digest() else Tuning()
    return replace(
        measured,
        id=device.id,
        limits=device.limits,
        transport=device.transport,
        work_group=device.work_group,
        tuning=tuned,
        host=device.host if measured.host == NO_HOST else measured.host,  # profiles had none once
    )
