"""Phones as devices: which there are, what each can do, asked once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flashmem_lab.device import DeviceSpec, Limits, known_rates
from flashmem_lab.errors import DeviceError, FlashMemError
from flashmem_lab.runtime.adb.client import Attached, Client, trouble
from flashmem_lab.runtime.adb.host import AdbHost
from flashmem_lab.runtime.adb.loop import shared_loop
from flashmem_lab.runtime.adb.runtime import AdbRuntime, start_agent
from flashmem_lab.runtime.adb.server import is_wanted
from flashmem_lab.runtime.base import Runtime
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.write import write_file

PREFIX = "adb:"
"""How the ids of phones begin; the rest is what the adb server calls them."""

_SCHEMA = "flashmem-lab/phone/1"
_UNKNOWN = Limits(0, 0, 0, 0, 0, 0, images=False)
_AT_ONCE = 4  # phones that are asked beside each other


@dataclass(frozen=True, slots=True)
class Phone:
    """A device behind adb.

    Attributes:
        spec: what it can do; of one with a problem only its id and name mean something.
        problem: what is wrong with it and what to do, "" if it works.
    """

    spec: DeviceSpec
    problem: str


def list_phones(cache: Path, client: Client | None = None) -> list[Phone]:
    """Every device that the adb server knows; none where there is no adb.

    Args:
        cache: folder where it is kept what phones can do.
        client: of the adb server; by default the user's.
    """
    if not is_wanted(os.environ):
        return []
    try:
        client = client or Client()
        attached = shared_loop().call(client.devices())
    except DeviceError:
        return []  # `doctor` says why; everything else works without
    problems = troubles(attached)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(
            pool.map(
                lambda one: (
                    with_problem(one, error)
                    if (error := problems.get(one.serial))
                    else ask_phone(one, cache, client)
                ),
                attached,
            )
        )


def troubles(attached: Sequence[Attached]) -> dict[str, DeviceError]:
    """What is wrong with each device that cannot be used, by serial."""
    counts = Counter(one.serial for one in attached)
    states = {one.serial: one.state for one in attached}
    found = (
        (serial, trouble(serial, state if counts[serial] == 1 else "more than one"))
        for serial, state in states.items()
    )
    return {serial: error for serial, error in found if error is not None}


def ask_phone(one: Attached, cache: Path, client: Client) -> Phone:
    """Asks a phone what it can do; what fails is its problem."""
    try:
        return Phone(open_phone(one.serial, cache, client), "")
    except FlashMemError as error:
        return with_problem(one, error)


def with_problem(one: Attached, error: FlashMemError) -> Phone:
    """A phone that cannot be used, with what to do about it; beside its id, so without it."""
    message = error.message.removeprefix(f"{one.serial} ")
    return unusable(one, "; ".join(filter(None, (message, error.hint))))


def unusable(one: Attached, problem: str) -> Phone:
    """A phone of which nothing is known yet but what the adb server says."""
    model = one.facts.get("model", "").replace("_", " ")
    rates = known_rates(model or one.serial, "gpu")
    spec = rates.spec(
        f"{PREFIX}{one.serial}", name=model or "phone", driver="", kind="gpu", limits=_UNKNOWN
    )
    return Phone(spec, problem)


def open_phone(serial: str, cache: Path, client: Client | None = None) -> DeviceSpec:
    """The device of a serial; asked by an agent on it, unless it was before.

    Args:
        serial: as the adb server calls it.
        cache: folder where it is kept what phones can do.
        client: of the adb server; by default the user's.

    Raises:
        DeviceError: it cannot be used; the message says why and what to do.
    """
    host = AdbHost(serial, client)
    kept = cache / f"phone-{_key(host)}.json"
    spec = _kept(kept)
    if spec is None:
        spec = _asked(host, cache)
        with suppress(FlashMemError):  # else it is asked again the next time
            data = {"schema": _SCHEMA, **to_plain(spec)}
            write_file(kept, json.dumps(data), "keeping what a phone can do")
    return spec


def _kept(file: Path) -> DeviceSpec | None:
    """What an earlier process was told; None if nothing, or nothing sound."""
    try:
        data = json.loads(file.read_bytes())
        if isinstance(data, dict) and data.pop("schema", "") == _SCHEMA:
            return from_plain(data, DeviceSpec)
    except (OSError, ValueError, RecursionError):
        pass
    return None


def open_phone_runtime(device: DeviceSpec, cache: Path) -> Runtime:
    """A runtime on a phone; close it when done. Its agent is started with the first program.

    Args:
        device: from `open_phone`.
        cache: folder where agents that were built are kept.

    Raises:
        DeviceError: the phone cannot be used; the message says why and what to do.
    """
    return AdbRuntime(AdbHost(device.id.removeprefix(PREFIX)), device, cache)


def _asked(host: AdbHost, cache: Path) -> DeviceSpec:
    """What an agent on the phone finds."""
    session = start_agent(host, cache)
    try:
        told = session.device
    finally:
        session.close()
    gpu = " ".join(str(told["name"]).split())
    words = " ".join(f"{told['version']} {told['driver']}".split())
    images = bool(told["images"])
    limits = Limits(
        image_width=int(told["image_width"]) if images else 0,
        image_height=int(told["image_height"]) if images else 0,
        max_alloc=int(told["max_alloc"]),
        global_memory=int(told["global_memory"]),
        local_memory=int(told["local_memory"]),
        max_work_group=int(told["max_work_group"]),
        images=images,
        half_arithmetic="cl_khr_fp16" in str(told["extensions"]).split(),
    )
    kind = str(told["kind"])
    return known_rates(gpu, kind, words).spec(
        f"{PREFIX}{host.serial}",
        name=", ".join(filter(None, (host.facts.model, host.facts.soc, gpu))),
        driver=f"{told['platform']} {told['driver']}, {host.facts.system}",
        kind=kind,
        limits=limits,
    )


def _key(host: AdbHost) -> str:
    """Another system has other drivers, and another agent may ask more."""
    known = (host.serial, host.facts.build, host.facts.model, host.abi)
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
