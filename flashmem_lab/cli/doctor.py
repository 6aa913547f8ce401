"""The command that says what works on this machine and how to mend what does not."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from ctypes import CDLL
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from flashmem_lab import workflow
from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.cli.parser import Options
from flashmem_lab.devices import DeviceState
from flashmem_lab.errors import FlashMemError
from flashmem_lab.units import format_bytes

_VENDORS = "/etc/OpenCL/vendors"  # where loaders look unless OCL_ICD_VENDORS says otherwise
_PACKAGES = ("numpy", "onnx", "pyopencl", "plotly", "jupyterlab")
_POCL = "install a working one: apt-get install pocl-opencl-icd (Debian), or your GPU's driver"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: "ok", "missing" (something optional) or "broken".
        detail: what was found.
        mend: what to do about it, or "".
    """

    what: str
    state: str
    detail: str
    mend: str = ""


def doctor(options: Options) -> int:
    """Looks at everything; exit code 1 if no model can run here."""
    states, failed = _states()
    findings = list(_devices(states, failed))
    works = any(found.state == "ok" for found in findings)
    findings += _drivers()
    if not options.quick:
        findings = [_python(), *_packages(), *findings, _kernels(), _cache(), *_optional()]
        findings += _adb()
        findings += _phones(states)
    if options.json:
        listed = [asdict(found) for found in findings]
        print_json({"schema": "flashmem-lab/doctor/1", "works": works, "findings": listed})
    else:
        print_table(
            ((found.state, found.what, found.detail, found.mend) for found in findings),
            columns=("", "what", "found", "to mend it"),
        )
    broken = any(found.state == "broken" for found in findings if not _is_one_of_many(found))
    return 0 if works and not broken else 1


def _is_one_of_many(found: Finding) -> bool:
    """Whether everything else works without it."""
    return found.what.startswith(("OpenCL", "adb"))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{version}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", f"pip install {name}")


def _states() -> tuple[list[DeviceState], str]:
    """Every device, or why they cannot be listed."""
    try:
        return workflow.devices(), ""
    except (FlashMemError, ImportError) as error:
        return [], str(error)


def _devices(states: Sequence[DeviceState], failed: str) -> Iterator[Finding]:
    if failed:
        yield Finding("OpenCL", "broken", failed, _POCL)
        return
    found = [state for state in states if state.spec.id.startswith("ocl:")]
    if not found:
        yield Finding("OpenCL", "broken", "no device", _POCL)
    for state in found:
        spec, name = state.spec, f"OpenCL {state.spec.id}"
        title = f"{spec.name} ({spec.driver})"
        if state.problem:
            yield Finding(name, "broken", f"{title}: {state.problem}", _mend(spec.driver))
        else:
            yield Finding(name, "ok", f"{title}: compiles and runs a kernel")


def _drivers() -> Iterator[Finding]:
    """Entries of the OpenCL loader that name a library which cannot be loaded; it skips them."""
    place = Path(os.environ.get("OCL_ICD_VENDORS") or _VENDORS)
    entries = sorted(place.glob("*.icd")) if place.is_dir() else [place]
    for entry in entries:
        try:
            CDLL(entry.read_text(errors="replace").partition("\n")[0].strip())
        except OSError as error:
            if entry.suffix == ".icd":
                mend = "install the driver that has it again, or delete the .icd file"
                yield Finding(f"OpenCL {entry.name}", "broken", f"{entry}: {error}", mend)


def _mend(driver: str) -> str:
    if driver.startswith("Portable Computing Language") and util.find_spec(
        "pocl_binary_distribution"
    ):
        # Seen: the wheel of PoCL 3.0 ends with "unknown target CPU 'generic'" on newer CPUs.
        return "pip uninstall pocl-binary-distribution (cannot compile for this CPU); " + _POCL
    return _POCL


def _kernels() -> Finding:
    from flashmem_lab.program.render import kernel_directory

    count = len(list(kernel_directory().glob("*.cl")))
    if count:
        return Finding("kernel templates", "ok", f"{count}")
    return Finding("kernel templates", "broken", "none", "install flashmem-lab again")


def _cache() -> Finding:
    directory = workflow.cache_directory()
    mend = "set FLASHMEM_LAB_CACHE to a folder that can be written"
    try:
        nearest = next(path for path in (directory, *directory.parents) if path.exists())
        if not nearest.is_dir():
            return Finding("weight cache", "broken", f"{nearest} is not a folder", mend)
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"\0")
        used = sum(path.stat().st_size for path in directory.glob("*") if path.is_file())
        free = shutil.disk_usage(nearest).free
    except OSError as error:
        return Finding("weight cache", "broken", f"{directory}: {error.strerror}", mend)
    detail = f"{directory}: {format_bytes(used)} used, {format_bytes(free)} free"
    return Finding("weight cache", "ok", detail)


def _optional() -> Iterator[Finding]:
    if util.find_spec("onnxruntime"):
        yield Finding("onnxruntime", "ok", f"{metadata.version('onnxruntime')}: --check works")
    else:
        mend = "pip install 'flashmem-lab[check]'"
        yield Finding("onnxruntime", "missing", "--check cannot compare; host nodes are slow", mend)
    browser = _program("chromium", "chromium-browser", "google-chrome")
    if browser:
        yield Finding("Chromium", "ok", browser)
    else:
        yield Finding(
            "Chromium", "missing", "the browser tests need it", "apt-get install chromium"
        )


def _adb() -> Iterator[Finding]:
    """The adb program, and whether its server runs or can be started."""
    from flashmem_lab.runtime.adb.server import INSTALL, NONE, find_adb, is_wanted

    if not is_wanted(os.environ):
        said = f"left alone, as FLASHMEM_LAB_ADB={NONE} says"
        yield Finding("adb", "missing", said, "unset it")
        return
    adb = find_adb(os.environ)
    if not adb:
        yield Finding("adb", "missing", "phones are reached through it", INSTALL)
        return
    from flashmem_lab.runtime.adb.client import Client
    from flashmem_lab.runtime.adb.loop import shared_loop

    try:
        shared_loop().call(Client().devices())
    except FlashMemError as error:
        yield Finding("adb", "broken", f"{adb}: {error.message}", error.hint)
    else:
        yield Finding("adb", "ok", f"{adb}, its server answers")


def _phones(states: Sequence[DeviceState]) -> Iterator[Finding]:
    """Each phone, and what keeps it from being used."""
    for state in states:
        if state.spec.id.startswith("adb:"):
            said, _, mend = state.problem.partition("; ")
            if state.problem:
                yield Finding(state.spec.id, "broken", said, mend or "see docs/phones.md")
            else:
                title = f"{state.spec.name} ({state.spec.driver})"
                yield Finding(state.spec.id, "ok", f"{title}: it answers")


def _program(*names: str) -> str:
    return next((str(Path(found)) for name in names if (found := shutil.which(name))), "")
