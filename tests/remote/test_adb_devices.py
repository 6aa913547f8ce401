"""Phones as devices: listed, followed as they come and go, refused with what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from flashmem_lab import workflow
from flashmem_lab.cli import main
from flashmem_lab.devices import DeviceState, watch_phones
from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb.watch import ASKING
from tests.remote.adb_server import Adb
from tests.remote.fake_adbd import Daemon

SECONDS = 20


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))


def phones() -> dict[str, DeviceState]:
    """By id."""
    found = workflow.devices()
    return {one.spec.id: one for one in found if one.spec.id.startswith("adb:")}


def test_phones_are_listed_with_what_is_wrong_with_them(
    attach: Callable[..., Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    good, shut = attach(), attach(allowed=False)
    assert main(["devices", "--json"]) == 0
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)["devices"]}
    assert listed[f"adb:{good.serial}"]["works"], listed[f"adb:{good.serial}"]
    assert listed[f"adb:{good.serial}"]["name"].startswith("Maker Loop One, ")
    assert listed[f"adb:{good.serial}"]["limits"]["global_memory"] > 0
    assert not listed[f"adb:{shut.serial}"]["works"]
    assert "accept its dialog" in listed[f"adb:{shut.serial}"]["problem"]
    assert main(["devices"]) == 0
    assert f"adb:{good.serial}" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0, "a phone that refuses is no fault of this machine"
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["adb"]["state"] == "ok"
    assert found[f"adb:{good.serial}"]["state"] == "ok"
    assert found[f"adb:{shut.serial}"]["state"] == "broken"
    assert "accept its dialog" in found[f"adb:{shut.serial}"]["mend"]


def test_a_phone_is_asked_once(phone: Daemon) -> None:
    (first,) = phones().values()
    assert not first.problem
    assert "nobody measured" in first.spec.compute["reusable"].source
    agents = list((phone.phone.root / "tmp").rglob("*"))
    for file in agents:
        if file.is_file():
            file.unlink()
    began = time.monotonic()
    assert workflow.open_device(first.spec.id) == first.spec
    assert time.monotonic() - began < SECONDS
    assert not any(file.is_file() for file in agents), "nothing was copied to it again"


def test_what_was_kept_and_is_damaged_is_asked_again(phone: Daemon, tmp_path: Path) -> None:
    (first,) = phones().values()
    (kept,) = (tmp_path / "cache").glob("phone-*.json")
    for damage in ("{", '{"schema": "other"}', "[]", kept.read_text().replace('"limits"', '"x"')):
        kept.write_text(damage)
        assert workflow.open_device(first.spec.id) == first.spec


def test_a_phone_that_is_not_there_is_refused(adb: Adb) -> None:
    with pytest.raises(DeviceError, match="R5CT is not there"):
        workflow.open_device("adb:R5CT")
    assert phones() == {}


class Heard:
    """What a watch tells."""

    def __init__(self) -> None:
        self.told: Queue[dict[str, str]] = Queue()

    def changed(self, states: list[DeviceState]) -> None:
        self.told.put({state.spec.id: state.problem for state in states})

    def until(self, wanted: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
        """Everything that is told until something is as wanted."""
        told = []
        while not told or not wanted(told[-1]):
            told.append(self.told.get(timeout=SECONDS))
        return told


@pytest.fixture
def heard() -> Iterator[Heard]:
    listener = Heard()
    stop = watch_phones(listener.changed)
    yield listener
    stop()


def test_phones_are_followed(heard: Heard, attach: Callable[..., Daemon]) -> None:
    heard.until(lambda phones: phones == {})
    one = attach()
    name = f"adb:{one.serial}"
    told = heard.until(lambda phones: phones.get(name) == "")
    assert {name: ASKING} in told, "told of at once, before it has answered"
    two = attach(allowed=False)
    other = f"adb:{two.serial}"
    heard.until(lambda phones: "accept its dialog" in phones.get(other, ""))
    one.drop()
    # Over TCP the server keeps the name for a while and says that nobody answers.
    heard.until(lambda phones: phones.get(name, "offline") != "")


def test_a_watch_that_was_stopped_tells_nothing(attach: Callable[..., Daemon]) -> None:
    listener = Heard()
    stop = watch_phones(listener.changed)
    listener.until(lambda phones: True)
    stop()
    attach()
    time.sleep(0.3)
    with pytest.raises(Empty):
        listener.told.get_nowait()


def test_no_phones_where_adb_is_to_be_left_alone(
    phone: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_ADB", "none")
    assert phones() == {}
    listener = Heard()
    watch_phones(listener.changed)()
    assert listener.told.get_nowait() == {}
