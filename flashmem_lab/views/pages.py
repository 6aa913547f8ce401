"""The pictures of a workbench, one tab each: memory, graph, schedule, comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import plotly.graph_objects as go

from flashmem_lab.trace import Trace, memory_figure
from flashmem_lab.trace.figures import memory_series
from flashmem_lab.views.compare import CompareView
from flashmem_lab.views.fit import fit
from flashmem_lab.views.graph import GraphView
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.views.schedule import ScheduleView

if TYPE_CHECKING:
    from flashmem_lab.plan import Plan
    from flashmem_lab.views.edits import Edit
    from flashmem_lab.workflow import Prepared

_LIVE = ("x", "y", "customdata", "text", "name", "showlegend", "hovertemplate")  # of a trace


@dataclass(frozen=True, slots=True)
class Scene:
    """What the pictures show: a model, a plan of it, what it would hold and what it held."""

    prepared: Prepared
    plan: Plan
    predicted: Trace
    measured: Trace | None = None


class Pages:
    """Tabs with the pictures; one that is not seen is brought up to date when it is opened.

    Args:
        prepared: the model to begin with.
        edited, moved: see `ScheduleView`.

    Attributes:
        box: the widget to show.
        figure: the memory timeline; updated in place.
        graph: the model's graph, coloured by the plan.
        schedule: the life of every weight, to be edited.
        compare: any two runs side by side.
    """

    def __init__(
        self,
        prepared: Prepared,
        edited: Callable[[Edit], None],
        moved: Callable[[int], None],
    ) -> None:
        self.figure = go.FigureWidget(memory_figure(None, None, 0))
        self.figure.set_trait("_config", {"responsive": True, "displaylogo": False})
        self.graph = GraphView(prepared)
        self.schedule = ScheduleView(edited, moved)
        self.compare = CompareView()
        self._fit = fit()
        memory = widgets.VBox([self.figure, self._fit], layout=widgets.Layout(width="100%"))
        self.box = widgets.Tab(
            [memory, self.graph, self.schedule, self.compare.box],
            titles=("Memory", "Graph", "Schedule", "Compare"),
            layout=widgets.Layout(width="100%"),
        )
        self.box.observe(self._opened, names="selected_index")
        self._draws = (self._draw_memory, self._draw_graph, self._draw_schedule)
        self._stale = [False] * len(self._draws)
        self._scene: Scene | None = None
        self._in_graph: Prepared | None = prepared

    def show(self, scene: Scene | None) -> None:
        """Draws a scene; None leaves the pictures of the last one."""
        self._scene = scene
        if scene is not None:
            self._stale = [True] * len(self._draws)
            self._opened(None)

    def close(self) -> None:
        """Removes every widget."""
        self.box.unobserve(self._opened, names="selected_index")
        self.compare.close()
        for child in (
            self.figure,
            self._fit,
            self.graph,
            self.schedule,
            *self.box.children,
            self.box,
        ):
            child.close()

    def _opened(self, change: Any) -> None:
        """Brings the tab that is seen up to date."""
        page = self.box.selected_index or 0
        if page < len(self._draws) and self._scene is not None and self._stale[page]:
            self._stale[page] = False
            self._draws[page](self._scene)

    def _draw_memory(self, scene: Scene) -> None:
        """In place: the browser keeps zoom and the chosen x axis."""
        series = memory_series(scene.predicted, scene.measured, scene.plan.budget_bytes)
        # Every trace is given every value: where a message leaves one out because it stayed the
        # same, as `batch_update` does, the browser takes it for one that went away.
        self.figure.plotly_update(
            restyle_data={key: [one[key] for one in series] for key in _LIVE},
            trace_indexes=list(range(len(series))),
        )

    def _draw_graph(self, scene: Scene) -> None:
        plan = _plan_data(scene)
        if scene.prepared is self._in_graph:
            self.graph.plan = plan
        else:
            self._in_graph = scene.prepared
            self.graph.show(scene.prepared, plan)

    def _draw_schedule(self, scene: Scene) -> None:
        self.schedule.plan = _plan_data(scene)


def _plan_data(scene: Scene) -> bytes:
    return plan_data(scene.prepared.model, scene.plan, scene.predicted, scene.measured)
