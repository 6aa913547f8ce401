"""The device menu: phones as they come and go, the others when somebody looks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flashmem_lab.views import markup
from flashmem_lab.views.choices import Choices
from flashmem_lab.views.running import teller

if TYPE_CHECKING:
    from flashmem_lab.devices import DeviceState

_PHONE = "adb:"


class Picker:
    """Keeps the menu of a workbench as the devices are.

    Phones are heard of where an event loop runs, as it does in a kernel; the adb server's word
    needs no driver and no child process, so a phone that comes during a run is offered at once.

    Args:
        choices: have the menu.
        states: every device there was when it was made.
    """

    def __init__(self, choices: Choices, states: Sequence[DeviceState]) -> None:
        self._choices = choices
        self._states = list(states)
        self._phones: list[DeviceState] | None = None  # until the adb server was heard
        self._stop: Callable[[], None] | None = None
        self._offer()
        tell = teller()
        if tell is None:
            return

        from flashmem_lab.devices import watch_phones

        self._stop = watch_phones(lambda phones: tell(lambda: self._heard(phones)))

    def found(self, states: Sequence[DeviceState]) -> None:
        """Offers what somebody looked for."""
        self._states = list(states)
        self._offer()

    def close(self) -> None:
        """Hears nothing any more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def _heard(self, phones: list[DeviceState]) -> None:
        if self._stop is not None:
            self._phones = phones
            self._offer()

    def _offer(self) -> None:
        states = self._states
        if self._phones is not None:
            others = [one for one in states if not one.spec.id.startswith(_PHONE)]
            real = [one for one in others if not one.spec.id.startswith("sim:")]
            states = [*real, *self._phones, *others[len(real) :]]
        refused = [one for one in states if one.problem and one.spec.id.startswith(_PHONE)]
        words = " · ".join(f"{one.spec.id}: {one.problem}" for one in refused)
        self._choices.set_devices(working(states), markup.note(words) if words else "")


def working(states: Sequence[DeviceState]) -> list[tuple[str, str]]:
    """Id and name of each device that works."""
    return [(state.spec.id, state.spec.name) for state in states if not state.problem]
