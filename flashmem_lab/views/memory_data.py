"""What is held over time, as the browser draws it; mirrored by widgets/src/core/memory_data.ts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.plan import Plan
from flashmem_lab.trace import Trace
from flashmem_lab.trace.runs import (
    DEVICE_POOLS,
    MemoryCurve,
    Run,
    memory_curve,
    rows_by_layer,
    split_runs,
)
from flashmem_lab.views.plan_data import layer_times
from flashmem_lab.views.wire import encode

SCHEMA = "flashmem-lab/memory-view/1"


def memory_data(plan: Plan, predicted: Trace, measured: Trace | None = None) -> bytes:
    """The first run of a plan: what each pool was expected to hold, and what it held.

    Args:
        plan: what was predicted and measured.
        predicted: its simulated trace.
        measured: a run of it.
    """
    expected, here = _first(predicted), _first(measured)
    ends = np.zeros(0)
    if measured is not None:
        ends = layer_times(measured.timeline, len(measured.layers))[1]
    return encode(
        SCHEMA,
        {
            "budgetBytes": plan.budget_bytes,
            "predictedEndMs": expected[1].end_ns / 1e6 if expected else 0.0,
            "measuredEndMs": here[1].end_ns / 1e6 if here else 0.0,
        },
        {
            "predictedMs": _moments(expected),
            "predictedHeld": _held(expected),
            "measuredMs": _moments(here),
            "measuredHeld": _held(here),
            "measuredLayers": _by_layer(here, expected),
            "measuredEnd": ends,
        },
    )


_First = tuple[Run, MemoryCurve] | None


def _first(trace: Trace | None) -> _First:
    runs = split_runs(trace.timeline) if trace is not None else ()
    return (runs[0], memory_curve(runs[0])) if runs else None


def _moments(first: _First) -> NDArray[np.float64]:
    return first[1].time_ns / 1e6 if first else np.zeros(0)


def _held(first: _First) -> NDArray[np.float64]:
    """Bytes after each change: staging of all changes, then buffers, then textures; (3 n,)."""
    if first is None:
        return np.zeros(0)
    return np.concatenate([first[1].pools[pool] for pool in DEVICE_POOLS]).astype(np.float64)


def _by_layer(here: _First, expected: _First) -> NDArray[np.float64]:
    """Bytes held while each layer ran, pools in turn as in `plan_data`; (3 layers,)."""
    if here is None or expected is None:
        return np.zeros(0)
    states = expected[1].states()
    told = [states[row] for row in rows_by_layer(*expected)]
    rows = rows_by_layer(*here, told)
    columns = [here[1].pools[pool][rows] for pool in DEVICE_POOLS]
    return np.stack(columns, axis=1).astype(np.float64).reshape(-1)
