"""What to plan for: device, precision, strategy, budget and the rest, as widgets with one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from flashmem_lab.device import Transport
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.plan import Objective, Strategy
from flashmem_lab.views.budget import BudgetSlider
from flashmem_lab.views.parts import row
from flashmem_lab.views.planning import PRICE, Choice

_LABEL = {"description_width": "64px"}
_MODES = (
    ("time to first result", Objective.COLD.value),
    ("time of later runs", Objective.WARM.value),
    ("memory", Objective.MEMORY.value),
)
_TRANSPORTS = (("the device's own", ""), *((one.value, one.value) for one in Transport))
_CHUNKS = tuple((f"{1 << (at - 10)} KiB", 1 << at) for at in range(18, 24))
_WIDEST = "960px"  # of the slider: a hand does not drag farther


class Choices:
    """The widgets that say how to plan.

    Args:
        device: the id to start with, until `set_device` says which there are.
        precision: the precision to start with.

    Attributes:
        rows: what to show, from the device down to the slider.
        slider: of the budget.
    """

    def __init__(self, device: str, precision: Precision) -> None:
        self._device = widgets.Dropdown(
            options=[device],
            value=device,
            description="Device",
            style=_LABEL,
            layout=widgets.Layout(width="340px"),
        )
        self._again = widgets.Button(
            icon="refresh",
            tooltip="look for devices again",
            layout=widgets.Layout(width="34px"),
        )
        self._phones = widgets.HTML()  # why a phone that is there cannot be chosen
        self._precision = widgets.ToggleButtons(
            options=[one.value for one in Precision],
            value=precision.value,
            tooltips=["weights as 32-bit floats", "weights as 16-bit floats"],
            style={"button_width": "52px"},
        )
        self._strategy = _menu("Strategy", [one.value for one in Strategy])
        self._optimize = _menu("Optimize", _MODES, "238px")
        self._optimize.value = Objective.COLD.value
        self._price = widgets.BoundedFloatText(
            value=PRICE,
            min=0.0,
            max=1.0,
            step=0.05,
            description="λ",
            tooltip="price of preloaded bytes against streamed ones, where memory is made least",
            style={"description_width": "18px"},
            layout=widgets.Layout(width="98px"),
        )
        self._transport = _menu("Transport", _TRANSPORTS, "226px")
        self._chunk = _menu("Chunks", _CHUNKS)
        self._chunk.value = CHUNK_BYTES
        self.slider = BudgetSlider(layout=widgets.Layout(width="100%", max_width=_WIDEST))
        self.rows: list[Any] = [
            row(self._device, self._again, self._precision, self._strategy),
            self._phones,
            row(self._optimize, self._price, self._transport, self._chunk),
            self.slider,
        ]
        asked = [self._strategy, self._optimize, self._price, self._transport, self._chunk]
        self._observed = [self._device, self._precision, self.slider, *asked]
        self._changed: Callable[[], None] | None = None
        self._look: Callable[[], None] | None = None
        self._price_matters()

    # --- what was chosen -------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Id of the chosen device."""
        return str(self._device.value)

    @property
    def choice(self) -> Choice:
        """All of it."""
        return Choice(
            device=self.device,
            precision=Precision(self._precision.value),
            strategy=Strategy(self._strategy.value),
            optimize=Objective(self._optimize.value),
            percent=self.percent,
            lambda_=float(self._price.value),
            transport=str(self._transport.value),
            chunk_bytes=int(self._chunk.value),
        )

    def take(self, choice: Choice) -> None:
        """Says how to plan as another workbench did; device, precision and budget stay."""
        self._strategy.value = choice.strategy.value
        self._optimize.value = choice.optimize.value
        self._price.value = choice.lambda_
        self._transport.value = choice.transport
        if choice.chunk_bytes in dict(_CHUNKS).values():
            self._chunk.value = choice.chunk_bytes
        self._price_matters()

    @property
    def percent(self) -> float:
        """Position of the budget slider, 0 (least feasible) to 100 (full preload)."""
        return float(self.slider.value)

    @percent.setter
    def percent(self, value: float) -> None:
        self.slider.value = value

    # --- the devices that there are --------------------------------------------------------

    def set_device(self, device: str, devices: Sequence[tuple[str, str]]) -> None:
        """Offers devices for the first time; `device` is the one that was opened."""
        self._device.options = _labelled(devices)
        self._device.value = device

    def set_devices(self, devices: Sequence[tuple[str, str]], problems: str = "") -> None:
        """Offers other devices; the chosen one stays chosen, marked where it is gone.

        Args:
            devices: id and name of each that works.
            problems: HTML on those that people may expect there.
        """
        self._phones.value = problems
        chosen = self.device
        if chosen not in dict(devices):
            devices = [*devices, (chosen, "not there now")]
        options = _labelled(devices)
        if options == list(self._device.options):
            return
        changed, self._changed = self._changed, None  # not a choice of anybody
        self._device.options = options
        self._device.value = chosen
        self._changed = changed

    @property
    def looking(self) -> bool:
        """Whether devices are looked for; the button waits so long."""
        return bool(self._again.disabled)

    @looking.setter
    def looking(self, value: bool) -> None:
        self._again.disabled = value

    # --- listeners -------------------------------------------------------------------------

    def listen(self, *, changed: Callable[[], None], look: Callable[[], None]) -> None:
        """Calls `changed` when another plan is wanted, `look` when devices are to be looked for."""
        self._changed, self._look = changed, look
        for widget in self._observed:
            widget.observe(self._on_change, names="value")
        self._again.on_click(self._on_look)

    def close(self) -> None:
        """Detaches the listeners."""
        if self._changed is not None:
            for widget in self._observed:
                widget.unobserve(self._on_change, names="value")
        self._again.on_click(self._on_look, remove=True)
        self._changed, self._look = None, None

    def _price_matters(self) -> None:
        """Only to those who make memory least."""
        self._price.disabled = self._optimize.value != Objective.MEMORY.value

    def _on_change(self, change: Any) -> None:
        self._price_matters()
        if self._changed is not None:
            self._changed()

    def _on_look(self, button: Any) -> None:
        if self._look is not None:
            self._look()


def _labelled(devices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{one} · {name}", one) for one, name in devices]


def _menu(title: str, options: Sequence[str | tuple[str, object]], width: str = "190px") -> Any:
    return widgets.Dropdown(
        options=options,
        description=title,
        style=_LABEL,
        layout=widgets.Layout(width=width),
    )
