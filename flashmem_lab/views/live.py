"""What a run holds while it runs: figures, and a curve that grows."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

import ipywidgets as widgets

from flashmem_lab.units import format_bytes
from flashmem_lab.views import markup
from flashmem_lab.worker.jobs import Held

_SECONDS = 30.0  # of the past that are seen
_WIDTH, _HEIGHT = 320, 44  # px
_EDGE = 2  # px above the budget line


class Live:
    """The memory of the run that is under way; not seen between runs.

    Attributes:
        box: the widget to show.
    """

    def __init__(self) -> None:
        self.box: Any = widgets.HTML(layout=widgets.Layout(width="100%", display="none"))
        self._budget = 0
        self._points: list[tuple[float, int]] = []

    def begin(self, budget_bytes: int) -> None:
        """A run begins under a budget; 0 where it is not known yet."""
        self._budget = budget_bytes
        self._points = []
        self.box.value = ""
        self.box.layout.display = None

    def hear(self, held: Held) -> None:
        """Draws what is held now."""
        now = monotonic()
        self._points.append((now, held.total))
        self._points = [(at, size) for at, size in self._points if at >= now - _SECONDS]
        pools = ", ".join(f"{name} {format_bytes(size)}" for name, size in held.device.items())
        cap = f" of {format_bytes(self._budget)}" if self._budget else ""
        words = (
            f"holds <b>{format_bytes(held.total)}</b>{cap} "
            f"<span class='soft'>{pools and f'({pools})'} · "
            f"host process {format_bytes(held.host)}</span>"
        )
        self.box.value = markup.live(words, curve(self._points, self._budget))

    def end(self) -> None:
        """The run is over."""
        self.box.layout.display = "none"


def curve(points: Sequence[tuple[float, int]], budget: int) -> str:
    """The curve as SVG: seconds from left to right, the budget as a dashed line near the top."""
    first = points[0][0]
    highest = max(budget, *(size for _, size in points), 1)
    scale = (_HEIGHT - _EDGE) / highest
    steps = [
        f"{_WIDTH * (at - first) / _SECONDS:.1f},{_HEIGHT - scale * size:.1f}"
        for at, size in points
    ]
    line = _HEIGHT - scale * (budget or highest)
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='device memory held over "
        f"the last {_SECONDS:.0f} seconds'><line x1='0' x2='{_WIDTH}' y1='{line:.1f}' "
        f"y2='{line:.1f}' class='cap'/><polyline points='{' '.join(steps)}'/></svg>"
    )
