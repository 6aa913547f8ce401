"""The budget's slider as a widget; its browser's face is widgets/src/anywidget/budget.ts."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from flashmem_lab.views.static import static


class BudgetSlider(anywidget.AnyWidget):
    """From the least feasible budget to full preload, with marks, and time over budget above it.

    Attributes:
        value: percent of the way; while the thumb moves, that is known to the browser only.
        moving: whether it does.
        ends: least feasible budget and full preload, bytes; equal where nothing is to choose.
        sweep: times and marks along the way (`sweep_data`); empty until they are known.
    """

    value = traitlets.Float(0.0, min=0.0, max=100.0).tag(sync=True)
    moving = traitlets.Bool(False).tag(sync=True)
    ends = traitlets.List(trait=traitlets.Int(), default_value=[0, 0]).tag(sync=True)
    sweep = traitlets.Bytes().tag(sync=True)

    def __init__(self, **keywords: Any) -> None:
        self._esm, self._css = static("budget.js"), static("base.css")
        super().__init__(**keywords)
