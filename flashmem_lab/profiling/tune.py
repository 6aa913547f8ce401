"""Tuning: which tile is fastest for products of each size, and whether images or buffers are.

Every tile runs one graph of products and convolutions of many sizes, once with its weights in
images and once in buffers; by the device's clock, the fastest of each layer counts. A CPU has no
tiles to choose from, so that only images and buffers are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.device.tuning import Best, Product, Tile, Tuning
from flashmem_lab.devices import open_runtime
from flashmem_lab.graph import Graph
from flashmem_lab.lower import LoweredModel, Storage, lower
from flashmem_lab.lower.blocks import tiles_for
from flashmem_lab.plan import make_plan
from flashmem_lab.plan.timeline import Event
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import SampleBuilder
from flashmem_lab.program import build_program, kernels_digest, pack_weights
from flashmem_lab.runtime.base import Progress, Runtime
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.samples import sample_inputs

SECONDS = 90.0
"""After that long no further tile is tried. An H100 tries all of them in that time."""

REPEAT = 4  # runs; the first is left out and the least time of a layer counts

PRODUCTS = (
    (128, 768, 3072), (128, 2048, 2048), (128, 2048, 8192), (128, 8192, 2048),
    (197, 768, 768), (197, 768, 3072), (197, 3072, 768), (77, 768, 640),
    (256, 1280, 1280), (1024, 640, 5120), (4096, 320, 320), (2048, 2048, 2048),
)  # fmt: skip
"""Rows, reduction, columns: of language models, vision transformers and U-nets."""

CONVOLUTIONS = (
    (320, 320, 64, 3), (640, 640, 32, 3), (1280, 1280, 16, 3), (1280, 1280, 8, 3),
    (64, 64, 56, 3), (128, 128, 28, 3), (256, 256, 14, 3), (512, 512, 7, 3), (3, 64, 112, 7),
)  # fmt: skip
"""Input channels, output channels, height and width, window."""

BATCHES = ((12, 197, 64, 197), (8, 256, 160, 256), (16, 128, 128, 64))
"""Products of activations: how many, rows, reduction, columns."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One layer of the sample graph as one tile ran it.

    Attributes:
        node: of the graph.
        tile: None on a CPU.
        storage: of its weight.
        ns: least time, all launches of the node together.
    """

    node: str
    tile: Tile | None
    storage: Storage
    ns: int


def tune(
    device: DeviceSpec, *, seconds: float = SECONDS, progress: Progress | None = None
) -> Tuning:
    """Measures every tile that the device has room for, at most about `seconds` long."""
    graph, sizes = tuning_graph()
    found: dict[str, list[Tried]] = {node: [] for node in sizes}
    for tried in trials(device, graph, seconds, progress):
        if tried.node in found:
            found[tried.node].append(tried)
    return Tuning(
        kernels_digest(),
        tuple(_best(*sizes[node], results) for node, results in found.items() if results),
    )


def trials(
    device: DeviceSpec, graph: Graph, seconds: float, progress: Progress | None = None
) -> Iterable[Tried]:
    """Runs `graph` with every tile and storage until the time is up."""
    tiles = tiles_for(device.limits) if device.kind != "cpu" else (None,)
    storages = [Storage.IMAGE2D, Storage.BUFFER][0 if device.limits.images else 1 :]
    began = monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder,
        closing(open_runtime(device, launching=Launching.SINGLE)) as runtime,
    ):
        for tile in tiles:
            for storage in storages:
                if monotonic() - began > seconds:
                    return
                forced = replace(device, tuning=_always(tile))
                model = lower(graph, forced, storage=storage, whole=True)
                times = _run(runtime, forced, model, Path(folder), progress)
                for node, ns in times.items():
                    yield Tried(node, tile, storage, ns)


def _always(tile: Tile | None) -> Tuning:
    one = Product(1, 1, 1, 1)
    kinds = ("gemm", "matmul", "conv") if tile else ()
    return Tuning(best=tuple(Best(kind, one, tile) for kind in kinds))


def _run(
    runtime: Runtime,
    device: DeviceSpec,
    model: LoweredModel,
    folder: Path,
    progress: Progress | None,
) -> Mapping[str, int]:
    """Time of every node, ns: the least of each layer's launches, over all layers of the node.

    What lies between two launches counts too, where a node has several.
    """
    plan = make_plan(model, device, budget=room(model, device))
    packed = pack_weights(model, folder, progress=progress)
    program = build_program(plan, model, packed)
    result = runtime.run(
        program, packed.path, sample_inputs(program), repeat=REPEAT, progress=progress
    )
    times: dict[str, int] = {}
    gap_ns = int(device.launch_ns.value)
    for layer, ns in _least_times(result.trace.timeline.events).items():
        node = model.layers[layer].nodes[0]
        times[node] = times[node] + gap_ns + ns if node in times else ns
    return times


def _least_times(events: Iterable[Event]) -> dict[int, int]:
    """The shortest launch of each layer, ns; the first run is left out."""
    least: dict[int, int] = {}
    for event in events:
        if event.kind == "launch" and event.run > 0:
            took = event.end_ns - event.start_ns
            least[event.layer] = min(took, least.get(event.layer, took))
    return least


def _best(kind: str, size: Product, results: list[Tried]) -> Best:
    """The fastest tile with either storage, and what it took with both."""
    quickest = min(results, key=lambda tried: tried.ns)
    by_storage = {
        storage: min((tried.ns for tried in results if tried.storage is storage), default=0)
        for storage in (Storage.IMAGE2D, Storage.BUFFER)
    }
    return Best(kind, size, quickest.tile, by_storage[Storage.IMAGE2D], by_storage[Storage.BUFFER])


def tuning_graph() -> tuple[Graph, dict[str, tuple[str, Product]]]:
    """The graph of all sizes, and the kind and size of each of its nodes."""
    made, sizes = SampleBuilder("tuning"), {}
    for rows, inner, columns in PRODUCTS:
        node = made.add(
            "MatMul", [(1, rows, inner)], (1, rows, columns), weights=[(inner, columns)]
        )
        sizes[node] = ("gemm", Product(1, rows, columns, inner))
    for channels, outputs, side, window in CONVOLUTIONS:
        pad = window // 2
        node = made.add(
            "Conv",
            [(1, channels, side, side)],
            (1, outputs, side, side),
            weights=[(outputs, channels, window, window)],
            pads=(pad, pad, pad, pad),
            kernel_shape=(window, window),
        )
        sizes[node] = ("conv", Product(1, side * side, outputs, channels * window * window))
    for batch, rows, inner, columns in BATCHES:
        node = made.add(
            "MatMul", [(batch, rows, inner), (batch, inner, columns)], (batch, rows, columns)
        )
        sizes[node] = ("matmul", Product(batch, rows, columns, inner))
    return made.graph(), sizes
