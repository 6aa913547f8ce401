"""Devices by id: OpenCL ones of this machine, phones behind adb, and simulated ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab.errors import DeviceError
from flashmem_lab.folders import cache_directory

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.runtime.base import Runtime
    from flashmem_lab.runtime.launching import Launching
    from flashmem_lab.runtime.pagecache import PageCache

SIMULATED = "sim:"
"""How the ids of simulated devices begin."""

ADB = "adb:"
"""How the ids of phones begin; the rest is what the adb server calls them."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device and what is wrong with it, "" if it works."""

    spec: DeviceSpec
    problem: str


def devices() -> list[DeviceState]:
    """OpenCL devices, each tried with a kernel, phones, each asked, then the simulated ones."""
    from flashmem_lab.device import simulated_devices
    from flashmem_lab.runtime.adb import list_phones
    from flashmem_lab.runtime.opencl import list_devices, working

    with ThreadPoolExecutor(1) as pool:  # phones answer while kernels are built here
        asking = pool.submit(list_phones, cache_directory())
        found = [DeviceState(spec, working(spec.id)) for spec in list_devices()]
        phones = [DeviceState(one.spec, one.problem) for one in asking.result()]
    simulated = [DeviceState(spec, "") for spec in simulated_devices().values()]
    return [*found, *phones, *simulated]


def watch_phones(changed: Callable[[list[DeviceState]], None]) -> Callable[[], None]:
    """Tells of phones as they come and go; no driver is loaded for that.

    Args:
        changed: given every phone there is, at first and after each change, in another thread;
            must return at once.

    Returns:
        What ends it when called.
    """
    from flashmem_lab.runtime.adb import Watch

    return Watch(
        lambda phones: changed([DeviceState(one.spec, one.problem) for one in phones]),
        cache_directory(),
    ).close


def open_device(device_id: str = "auto") -> DeviceSpec:
    """The device of an id, or of a profile ("device.json").

    Ids are such as "ocl:0", "adb:SERIAL" and "sim:adreno750". "auto" is the first OpenCL device of
    this machine that works. A device that was profiled here has its measured rates; a
    profile that is named by its file is simulated.

    Raises:
        DeviceError: there is no such device or profile, or for "auto" none that works.
    """
    from flashmem_lab.device import simulated_devices
    from flashmem_lab.profiles import as_measured, load_profile
    from flashmem_lab.runtime.opencl import list_devices, working

    simulated = simulated_devices()
    if device_id in simulated:
        return simulated[device_id]
    if device_id.startswith(ADB):
        from flashmem_lab.runtime.adb import open_phone

        return as_measured(open_phone(device_id.removeprefix(ADB), cache_directory()))
    if device_id.endswith(".json"):
        path = Path(device_id)
        return replace(load_profile(path), id=f"{SIMULATED}{path.stem}")
    found = list_devices()
    if device_id == "auto":
        problems = {spec.id: working(spec.id) for spec in found}
        for spec in found:
            if not problems[spec.id]:
                return as_measured(spec)
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise DeviceError(
            f"no OpenCL device works here ({listed or 'none found'})",
            hint="`flashmem-lab doctor` says how to mend that",
        )
    for spec in found:
        if spec.id == device_id:
            return as_measured(spec)
    known = ", ".join([*(spec.id for spec in found), *simulated])
    raise DeviceError(f"there is no device {device_id!r}", hint=f"known: {known}")


def open_runtime(
    device: DeviceSpec, pages: PageCache | None = None, launching: Launching | None = None
) -> Runtime:
    """A runtime on `device`; close it when done.

    Args:
        device: where to run.
        pages: what becomes of the pages of weight files that were read; "auto" by default.
        launching: of an OpenCL device of this machine, "auto" by default; phones launch one by one.

    Raises:
        DeviceError: it cannot be opened.
    """
    if device.id.startswith(SIMULATED):
        from flashmem_lab.runtime.simulated import SimulatedRuntime

        return SimulatedRuntime(device)
    if device.id.startswith(ADB):
        from flashmem_lab.runtime.adb import open_phone_runtime

        return open_phone_runtime(device, cache_directory())
    from flashmem_lab.runtime.launching import Launching, records
    from flashmem_lab.runtime.opencl import open_runtime as open_opencl
    from flashmem_lab.runtime.pagecache import PageCache

    return open_opencl(
        device.id,
        cache_directory() / "kernels",
        pages or PageCache.AUTO,
        recorded=records(launching or Launching.AUTO, device),
    )
