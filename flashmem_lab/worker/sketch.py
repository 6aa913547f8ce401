"""What a plan is expected to do, without packing a weight; and that as two short curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan.simulate import simulate
from flashmem_lab.trace import Trace
from flashmem_lab.trace.runs import memory_curve, split_runs

if TYPE_CHECKING:
    from flashmem_lab.plan import Plan
    from flashmem_lab.prepared import Prepared

BINS = 192
"""Of a curve: about as many as a preview has pixels to say something with."""


def preview(prepared: Prepared, plan: Plan) -> Trace:
    """The predicted trace of `plan`, without packing a weight: milliseconds, not seconds.

    Weights move whole in it, not chunk by chunk: nobody sees the difference in a picture.
    """
    return Trace(
        origin="simulated",
        model=prepared.model.name,
        device=prepared.device.id,
        strategy=plan.strategy.value,
        precision=plan.precision,
        budget_bytes=plan.budget_bytes,
        timeline=simulate(plan, prepared.model, prepared.device, runs=1, by_weight=True),
        layers=tuple(layer.name for layer in prepared.model.layers),
        notes={},
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A predicted trace reduced to what a preview shows; shape (BINS,) each.

    Attributes:
        over_time: bytes held at equal steps of the first run, the most in each.
        over_layers: the same over its layers.
    """

    over_time: NDArray[np.float64]
    over_layers: NDArray[np.float64]


def sketch(predicted: Trace) -> Sketch:
    """Reduces a trace."""
    curve = memory_curve(split_runs(predicted.timeline)[0])
    seen = curve.layer >= 0
    return Sketch(
        _binned(curve.time_ns, curve.total, curve.end_ns),
        _binned(curve.layer[seen], curve.total[seen], len(predicted.layers)),
    )


def _binned(at: NDArray[np.int64], level: NDArray[np.int64], end: int) -> NDArray[np.float64]:
    """The most that a step curve reaches in each of `BINS` equal parts of 0..end."""
    edges = np.arange(BINS) * (max(end, 1) / BINS)
    before = (np.searchsorted(at, edges, side="right") - 1).clip(min=0)
    found: NDArray[np.float64] = level[before].astype(np.float64)
    bins = np.minimum((at * BINS) // max(end, 1), BINS - 1)
    np.maximum.at(found, bins, level)
    return found
