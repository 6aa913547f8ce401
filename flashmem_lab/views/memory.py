"""What a plan holds and a run held, as a widget; its face is widgets/src/anywidget/memory.ts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets

from flashmem_lab.views.brush import Brushed
from flashmem_lab.views.static import static


class MemoryView(Brushed):
    """Memory of each pool over time, over layers, or as addresses over layers.

    Attributes:
        memory: what is drawn (`memory_data`).
        plan: layers and weights of it (`plan_data`).
        sweep: what other budgets would hold, for a preview (`sweep_data`); empty at first.
        percent: where the budget's slider is; one that is not the plan's is previewed.
        mode: "time", "layers" or "map".
        addresses: where objects would lie (`address_data`); asked for only while `mode` is "map".
        height: px.

    Args:
        mapped: called when the map of addresses is opened.
    """

    memory = traitlets.Bytes().tag(sync=True)
    plan = traitlets.Bytes().tag(sync=True)
    sweep = traitlets.Bytes().tag(sync=True)
    addresses = traitlets.Bytes().tag(sync=True)
    percent = traitlets.Float(0.0).tag(sync=True)
    mode = traitlets.Enum(("time", "layers", "map"), "time").tag(sync=True)
    height = traitlets.Int(300).tag(sync=True)

    def __init__(self, mapped: Callable[[], None]) -> None:
        self._mapped = mapped
        self._esm, self._css = static("memory.js"), static("base.css")
        super().__init__()
        self.observe(self._opened, names="mode")

    def _opened(self, change: Any) -> None:
        if change.new == "map":
            self._mapped()
