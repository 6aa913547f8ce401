"""The graph of a model as a widget; its browser's face is widgets/src/anywidget/graph.ts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from flashmem_lab.graph import Graph, open_graph
from flashmem_lab.views.brush import Brushed
from flashmem_lab.views.details import node_details
from flashmem_lab.views.graph_data import graph_data
from flashmem_lab.views.static import static

if TYPE_CHECKING:
    from flashmem_lab.lower.layer import LoweredModel
    from flashmem_lab.workflow import Prepared


class GraphView(Brushed):
    """Nodes and edges of a model: search, groups, colours, and words on what is selected.

    Args:
        model: path of an .onnx file, an opened Graph, or what `load` gave. Only the last one knows
            operator classes, kernels and texture layouts. None until `show` is called.
        height: px.

    Attributes:
        selected: index of the selected node in `Graph.nodes`, or -1; may be set.

    Raises:
        FlashMemError: the model cannot be opened.
    """

    graph = traitlets.Bytes().tag(sync=True)
    plan = traitlets.Bytes().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    height = traitlets.Int(560).tag(sync=True)

    def __init__(
        self, model: Prepared | Graph | Path | str | None = None, *, height: int = 560
    ) -> None:
        self._source: Graph | None = None
        self._lowered: LoweredModel | None = None
        self._esm, self._css = static("graph.js"), static("base.css")  # anywidget makes them traits
        super().__init__(height=height)
        if model is not None:
            self.show(model)
        self.on_msg(self._answer)

    def show(self, model: Prepared | Graph | Path | str, plan: bytes = b"") -> None:
        """Shows another model, or a plan of it (`plan_data`); an unchanged graph is not resent."""
        if isinstance(model, (str, Path)):
            model = open_graph(model)
        if isinstance(model, Graph):
            self._source, self._lowered = model, None
        else:
            self._source, self._lowered = model.graph, model.model
        self.graph = graph_data(self._source, self._lowered)
        self.plan = plan

    def _answer(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        """Sends words on the node that the browser asks about."""
        index = content.get("node")
        if content.get("kind") != "details" or not isinstance(index, int) or not self._source:
            return
        if 0 <= index < len(self._source.nodes):
            sections = node_details(self._source, self._lowered, index)
            self.send({"kind": "details", "node": index, "sections": sections})
