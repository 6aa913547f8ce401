"""A plan as the browser draws it; mirrored by `PlanModel` in widgets/src/core/model.ts."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import Plan
from flashmem_lab.plan.timeline import Lane, Timeline
from flashmem_lab.trace import Trace
from flashmem_lab.views.wire import encode

SCHEMA = "flashmem-lab/plan-view/1"

_WORK = ("launch", "host", "rows")  # events in which a layer runs


class Forced(IntEnum):
    """What the user asked for a weight; mirrored in model.ts."""

    FREE = 0
    PRELOAD = 1
    STREAM = 2
    WINDOW = 3


def plan_data(
    model: LoweredModel,
    plan: Plan,
    predicted: Trace,
    measured: Trace | None = None,
) -> bytes:
    """Each weight's life, each layer's time and what is held while it runs.

    Args:
        model: what the plan is for.
        plan: to draw.
        predicted: its simulated trace.
        measured: a run of it.
    """
    names = [*plan.preloaded, *(one.weight for one in plan.streamed)]
    number = {name: at for at, name in enumerate(names)}
    uses = model.weight_uses()
    load = [0] * len(plan.preloaded) + [one.load_at for one in plan.streamed]
    spans = np.array([uses[name] for name in names], np.int32).reshape(-1, 2)
    pinned = np.arange(len(names)) < len(plan.preloaded)
    sizes = np.array([model.weights[name].device_bytes for name in names], np.float64)
    moves = [
        (number[one.weight], move.layer, move.chunks) for one in plan.streamed for move in one.moves
    ]
    moved = np.array([(weight, layer) for weight, layer, _ in moves], np.uint32).reshape(-1, 2)
    needs = [(layer.index, number[name]) for layer in model.layers for name in layer.weights]
    needed = np.array(needs, np.uint32).reshape(-1, 2)
    begin, end = layer_times(predicted.timeline, len(model.layers))
    taken = np.zeros(0)
    if measured is not None:
        first, last = layer_times(measured.timeline, len(model.layers))
        taken = last - first
    moving = _moving(predicted.timeline)
    windows = {one.weight: (one.first, one.last) for one in plan.constraints.windows}
    allowed = np.array([windows.get(name, (-1, -1)) for name in names], np.int32).reshape(-1, 2)
    asked = {
        **dict.fromkeys(plan.constraints.preload, Forced.PRELOAD),
        **dict.fromkeys(plan.constraints.stream, Forced.STREAM),
        **{window.weight: Forced.WINDOW for window in plan.constraints.windows},
    }
    return encode(
        SCHEMA,
        {
            "layers": [layer.name for layer in model.layers],
            "weights": names,
            "device": plan.device,
            "strategy": plan.strategy.value,
            "budgetBytes": plan.budget_bytes,
            "peakBytes": plan.predicted.peak_bytes,
            "coldMs": plan.predicted.cold_ms,
            "warmMs": plan.predicted.warm_ms,
        },
        {
            "beginMs": begin,
            "endMs": end,
            "measuredMs": taken.astype(np.float32),
            "held": _held(model, plan, spans, sizes, load, pinned),
            "bytes": sizes,
            "load": np.array(load, np.int32),
            "first": spans[:, 0],
            "last": np.where(pinned, len(model.layers) - 1, spans[:, 1]).astype(np.int32),
            "readMs": np.array([moving.get(name, (-1.0, -1.0))[0] for name in names], np.float32),
            "hereMs": np.array([moving.get(name, (-1.0, -1.0))[1] for name in names], np.float32),
            "pinned": pinned.astype(np.uint8),
            "forced": np.array([asked.get(name, Forced.FREE) for name in names], np.uint8),
            "windowFirst": allowed[:, 0],
            "windowLast": allowed[:, 1],
            "moveWeight": moved[:, 0],
            "moveLayer": moved[:, 1],
            "moveBytes": np.array([count * plan.chunk_bytes for *_, count in moves], np.float64),
            "useLayer": needed[:, 0],
            "useWeight": needed[:, 1],
        },
    )


def layer_times(timeline: Timeline, layers: int) -> tuple[NDArray[np.float64], ...]:
    """When each layer begins and ends in the first run, ms; shape (layers,) each."""
    begin, end = np.zeros(layers), np.zeros(layers)
    for event in timeline.events:
        if event.run == 0 and event.lane is Lane.COMPUTE and event.kind in _WORK:
            begin[event.layer], end[event.layer] = event.start_ns / 1e6, event.end_ns / 1e6
    return begin, end


def _moving(timeline: Timeline) -> dict[str, tuple[float, float]]:
    """When each weight begins to be read and when it is there, in the first run, ms."""
    found: dict[str, tuple[float, float]] = {}
    for event in timeline.events:
        if event.run == 0 and event.weight and event.lane is not Lane.COMPUTE:
            begin, end = event.start_ns / 1e6, event.end_ns / 1e6
            known = found.get(event.weight, (begin, end))
            found[event.weight] = (min(known[0], begin), max(known[1], end))
    return found


def _held(
    model: LoweredModel,
    plan: Plan,
    spans: NDArray[np.int32],
    sizes: NDArray[np.float64],
    load: list[int],
    pinned: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Bytes of staging, buffers and textures while each layer runs, in turn; shape (3 layers,)."""
    change = np.zeros((len(model.layers) + 1, 3))
    change[0, 0] = plan.staging_bytes
    for name, (first, last) in model.lifetimes().items():
        change[first, 1] += model.buffers[name]
        change[last + 1, 1] -= model.buffers[name]
    for at, size in enumerate(sizes):
        change[0 if pinned[at] else load[at], 2] += size
        if not pinned[at]:
            change[spans[at, 1] + 1, 2] -= size
    held: NDArray[np.float64] = np.cumsum(change, axis=0)[:-1].reshape(-1)
    return held
