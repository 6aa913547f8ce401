"""Phones as the adb server tells of them; heard from the first question on, in this process.

Unlike an OpenCL driver, which may crash, that is a socket and needs no child process.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState

_FIRST_SECONDS = 10.0  # for a first answer, where an adb server has to be started


def listed(states: Sequence[DeviceState]) -> list[dict[str, str]]:
    """Devices for the browser: {id, name, problem, transport}."""
    return [
        {
            "id": state.spec.id,
            "name": state.spec.name,
            "problem": state.problem,
            "transport": state.spec.transport.value,
        }
        for state in states
    ]


class Phones:
    """The phones that there are now."""

    def __init__(self) -> None:
        self._starting = Lock()
        self._started = False
        self._heard = Event()
        self._phones: list[dict[str, str]] = []

    def now(self) -> list[dict[str, str]]:
        """See `listed`. The first call waits for a first word of the adb server."""
        with self._starting:
            if not self._started:
                from flashmem_lab.devices import watch_phones

                self._started = True
                watch_phones(self._changed)  # until this process ends
                self._heard.wait(_FIRST_SECONDS)
        return self._phones

    def _changed(self, phones: list[DeviceState]) -> None:
        self._phones = listed(phones)
        self._heard.set()
