"""The pictures of a workbench: memory, always seen, and a tab each for what is linked with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from flashmem_lab.trace import Trace
from flashmem_lab.views.address_data import address_data
from flashmem_lab.views.brush import link
from flashmem_lab.views.budget import BudgetSlider
from flashmem_lab.views.compare import CompareView
from flashmem_lab.views.graph import GraphView
from flashmem_lab.views.memory import MemoryView
from flashmem_lab.views.memory_data import memory_data
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.views.queue import QueueView
from flashmem_lab.views.schedule import ScheduleView

if TYPE_CHECKING:
    from flashmem_lab.plan import Plan
    from flashmem_lab.views.edits import Edit
    from flashmem_lab.workflow import Prepared


@dataclass(frozen=True, slots=True)
class Scene:
    """What the pictures show: a model, a plan of it, what it would hold and what it held."""

    prepared: Prepared
    plan: Plan
    predicted: Trace
    measured: Trace | None = None


class Pages:
    """Memory above tabs with the other pictures; a tab that is not seen waits until it is opened.

    What is pointed at in one picture is shown in the others.

    Args:
        edited, moved: see `ScheduleView`.
        queue: the tab of several models.

    Attributes:
        box: the widget to show.
        memory: what is held, over time, over layers or by address.
        graph: the model's graph, coloured by the plan.
        schedule: the life of every weight, to be edited.
        compare: any two runs side by side.
    """

    def __init__(
        self,
        edited: Callable[[Edit], None],
        moved: Callable[[int], None],
        queue: QueueView,
    ) -> None:
        self._queue = queue
        self.memory = MemoryView(self._draw_addresses)
        self.graph = GraphView()
        self.schedule = ScheduleView(edited, moved)
        self.compare = CompareView()
        self._links = link(self.memory, self.graph, self.schedule)
        self._tabs = widgets.Tab(
            [self.graph, self.schedule, self.compare.box, queue.box],
            titles=("Graph", "Schedule", "Compare", "Queue"),
            layout=widgets.Layout(width="100%"),
        )
        self.box = widgets.VBox([self.memory, self._tabs], layout=widgets.Layout(width="100%"))
        self._tabs.observe(self._opened, names="selected_index")
        self._draws = (self._draw_graph, self._draw_schedule)
        self._stale = [False] * len(self._draws)
        self._scene: Scene | None = None
        self._slider: BudgetSlider | None = None
        self._plan = b""  # of the scene, as the browser reads it
        self._in_graph: Prepared | None = None

    def introduce(self, prepared: Prepared) -> None:
        """Draws the graph of a model that there is no picture of yet."""
        if self._in_graph is None:
            self._in_graph = prepared
            self.graph.show(prepared, b"")

    def show(self, scene: Scene | None) -> None:
        """Draws a scene; None where there is no plan: graph and schedule stay, to be mended."""
        self._scene = scene
        if scene is None:
            self.memory.memory = b""
        else:
            self._stale = [True] * len(self._draws)
            self._plan = _plan_data(scene)
            self._draw_memory(scene)
            self._opened(None)

    def follow(self, slider: BudgetSlider) -> None:
        """Previews the budget under the slider's pointer in the browser."""
        self._slider = slider
        self._links.append(widgets.jsdlink((slider, "value"), (self.memory, "percent")))

    def preview(self, sweep: bytes) -> None:
        """What other budgets would do (`sweep_data`), for that and for the slider's marks."""
        self.memory.sweep = sweep
        if self._slider is not None:
            self._slider.sweep = sweep

    def close(self) -> None:
        """Removes every widget."""
        self._tabs.unobserve(self._opened, names="selected_index")
        self.compare.close()
        self._queue.close()
        for child in (*self._links, self.memory, self.graph, self.schedule, self._tabs, self.box):
            child.close()

    def _opened(self, change: Any) -> None:
        """Brings the tab that is seen up to date."""
        page = self._tabs.selected_index or 0
        if page < len(self._draws) and self._scene is not None and self._stale[page]:
            self._stale[page] = False
            self._draws[page](self._scene)

    def _draw_memory(self, scene: Scene) -> None:
        with self.memory.hold_sync():  # layers and what they hold arrive together
            self.memory.plan = self._plan
            self.memory.memory = memory_data(scene.plan, scene.predicted, scene.measured)
            self._draw_addresses()

    def _draw_addresses(self) -> None:
        """Only where they are seen: placing thousands of objects takes a while."""
        if self.memory.mode == "map" and self._scene is not None:
            self.memory.addresses = address_data(self._scene.prepared.model, self._scene.plan)

    def _draw_graph(self, scene: Scene) -> None:
        if scene.prepared is self._in_graph:
            self.graph.plan = self._plan
        else:
            self._in_graph = scene.prepared
            self.graph.show(scene.prepared, self._plan)

    def _draw_schedule(self, scene: Scene) -> None:
        self.schedule.plan = self._plan


def _plan_data(scene: Scene) -> bytes:
    return plan_data(scene.prepared.model, scene.plan, scene.predicted, scene.measured)
