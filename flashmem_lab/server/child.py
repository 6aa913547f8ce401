"""Work for the server in a process of its own: a driver or a parser may crash, the server not.

`python -m flashmem_lab.server.child WHAT ARGUMENTS...` writes bytes to stdout and exits with 0, or
one JSON object {"message", "hint"} and exits with 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab.errors import FlashMemError
from flashmem_lab.server.phones import listed

if TYPE_CHECKING:
    from flashmem_lab.graph import Graph
    from flashmem_lab.lower import LoweredModel

_TYPICAL = "sim:adreno750"
"""Classes and kernels of a graph are shown as on this device until a kernel says its own."""


def devices() -> bytes:
    """Every device, with what is wrong with it, as JSON."""
    from flashmem_lab.devices import devices as found

    return json.dumps(listed(found())).encode()


def graph(path: str) -> bytes:
    """The graph of an .onnx file, for the browser."""
    from flashmem_lab.views.graph_data import graph_data

    return graph_data(*_opened(path))


def node(path: str, index: str) -> bytes:
    """Words on one node of it, as JSON."""
    from flashmem_lab.views.details import node_details

    opened, model = _opened(path)
    return json.dumps(node_details(opened, model, int(index) % len(opened.nodes))).encode()


def timeline(path: str) -> bytes:
    """A trace, or what a plan or a bundle is predicted to do, for the browser."""
    from flashmem_lab.views.timeline_data import read_trace, timeline_data

    return timeline_data(read_trace(Path(path)))


WORK: dict[str, Callable[..., bytes]] = {
    "devices": devices,
    "graph": graph,
    "node": node,
    "timeline": timeline,
}


def main(what: str, *arguments: str) -> int:
    """Does one piece of work; the exit code."""
    try:
        sys.stdout.buffer.write(WORK[what](*arguments))
    except FlashMemError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return 1
    return 0


def _opened(path: str) -> tuple[Graph, LoweredModel | None]:
    """The graph, and its layers where it can be lowered."""
    from flashmem_lab.device import simulated_devices
    from flashmem_lab.graph import open_graph
    from flashmem_lab.lower import lower

    found = open_graph(path)
    try:
        return found, lower(found, simulated_devices()[_TYPICAL])
    except FlashMemError:
        return found, None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
