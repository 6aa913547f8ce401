"""The device menu follows phones as they come and go, and keeps what was chosen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from flashmem_lab.device import simulated_devices
from flashmem_lab.devices import DeviceState
from flashmem_lab.views.picker import Picker

CHOSEN = "sim:pocl"


def state(id_: str, problem: str = "") -> DeviceState:
    return DeviceState(replace(simulated_devices()[CHOSEN], id=id_, name=f"<{id_}>"), problem)


class Menu:
    """What the picker offers."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.problems = ""

    def set_devices(self, devices: list[tuple[str, str]], problems: str = "") -> None:
        self.ids = [one for one, _ in devices]
        self.problems = problems


class Watched:
    """Stands for the adb server."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.changed: Callable[[list[DeviceState]], None] = lambda states: None
        self.stopped = False
        patch.setattr("flashmem_lab.devices.watch_phones", self._watch)

    def _watch(self, changed: Callable[[list[DeviceState]], None]) -> Callable[[], None]:
        self.changed = changed
        return self._stop

    def _stop(self) -> None:
        self.stopped = True

    async def tell(self, *states: DeviceState) -> None:
        """From another thread, as the watch does."""
        thread = threading.Thread(target=self.changed, args=(list(states),))
        thread.start()
        thread.join()
        await asyncio.sleep(0.01)


def test_phones_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    menu, watched = Menu(), Watched(monkeypatch)

    async def look() -> None:
        picker = Picker(menu, [state("ocl:0"), state("adb:old"), state(CHOSEN)])  # type: ignore[arg-type]
        assert menu.ids == ["ocl:0", "adb:old", CHOSEN]
        await watched.tell(state("adb:new"), state("adb:shut", "accept <it>"))
        assert menu.ids == ["ocl:0", "adb:new", CHOSEN]
        assert "adb:shut: accept &lt;it&gt;" in menu.problems
        picker.found([state("ocl:0", "lost"), state("ocl:1"), state(CHOSEN)])
        assert menu.ids == ["ocl:1", "adb:new", CHOSEN]
        await watched.tell()
        assert menu.ids == ["ocl:1", CHOSEN]
        assert menu.problems == ""
        picker.close()
        assert watched.stopped
        await watched.tell(state("adb:late"))
        assert menu.ids == ["ocl:1", CHOSEN]

    asyncio.run(look())


def test_where_no_loop_runs_phones_are_those_that_were_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    menu, watched = Menu(), Watched(monkeypatch)
    picker = Picker(menu, [state("adb:one"), state(CHOSEN)])  # type: ignore[arg-type]
    assert menu.ids == ["adb:one", CHOSEN]
    picker.close()
    assert not watched.stopped
