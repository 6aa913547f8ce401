"""A trace as the browser draws it; mirrored by `TimelineModel` in widgets/src/core/timeline.ts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmem_lab.errors import FlashMemError, PlanError, UsageError
from flashmem_lab.plan.timeline import Lane, Pool
from flashmem_lab.trace import Trace
from flashmem_lab.trace.codec import load_trace
from flashmem_lab.trace.runs import memory_curve, split_runs
from flashmem_lab.trace.style import KIND_COLOURS, KIND_NAMES, OTHER_COLOUR
from flashmem_lab.views.wire import encode

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec

SCHEMA = "flashmem-lab/timeline-view/1"

_LANES = tuple(Lane)
_POOLS = (Pool.STAGING, Pool.BUFFER, Pool.TEXTURE)


def timeline_data(trace: Trace) -> bytes:
    """Events and memory of every run, one run after another."""
    runs = split_runs(trace.timeline)
    events = [event for run in runs for event in run.events]
    curves = [memory_curve(run) for run in runs]
    kinds, kind = _table(event.kind for event in events)
    names, name = _table(event.weight or event.name for event in events)
    held = [curve.pools[pool] for pool in _POOLS for curve in curves]
    header: dict[str, Any] = {
        "model": trace.model,
        "device": trace.device,
        "strategy": trace.strategy,
        "precision": trace.precision,
        "origin": trace.origin,
        "budgetBytes": trace.budget_bytes,
        "layers": list(trace.layers),
        "kinds": [KIND_NAMES.get(one, one) for one in kinds],
        "colours": [KIND_COLOURS.get(one, OTHER_COLOUR) for one in kinds],
        "names": names,
        "runEvents": list(accumulate((len(run.events) for run in runs), initial=0)),
        "runSamples": list(accumulate((len(curve.time_ns) for curve in curves), initial=0)),
        "runMs": [run.length_ns / 1e6 for run in runs],
    }
    return encode(
        SCHEMA,
        header,
        {
            "lane": np.array([_LANES.index(event.lane) for event in events], np.uint8),
            "kind": kind,
            "name": name,
            "layer": np.array([event.layer for event in events], np.int32),
            "begin": np.array([event.start_ns / 1e6 for event in events], np.float64),
            "end": np.array([event.end_ns / 1e6 for event in events], np.float64),
            "bytes": np.array([event.bytes for event in events], np.float64),
            "time": _joined([curve.time_ns / 1e6 for curve in curves]),
            "held": _joined(held),
        },
    )


def read_trace(path: Path) -> Trace:
    """The trace in a file; of a plan or a bundle, the predicted one.

    Raises:
        UsageError: neither a trace nor a plan nor a bundle, or a plan whose model is not beside it.
        FlashMemError: it cannot be read.
    """
    if path.suffix == ".fmb":
        return _of_bundle(path)
    try:
        return load_trace(path)
    except UsageError as no_trace:
        try:
            return _of_plan(path)
        except PlanError:
            raise no_trace from None


def _of_plan(path: Path) -> Trace:
    from flashmem_lab.lower import Precision
    from flashmem_lab.worker.sketch import preview
    from flashmem_lab.workflow import load, load_plan

    plan = load_plan(path)
    model = path.with_name(f"{plan.model}.onnx")
    if not model.is_file():
        raise UsageError(
            f"this plan is for {plan.model}, and there is no {model.name} beside it",
            hint=f"put {model.name} into the same folder",
        )
    device = _device(plan.device)
    return preview(load(model, device=device, precision=Precision(plan.precision)), plan)


def _of_bundle(path: Path) -> Trace:
    from flashmem_lab.device import simulated_devices
    from flashmem_lab.program import read_bundle
    from flashmem_lab.workflow import predict

    program, _ = read_bundle(path)
    try:
        device = _device(program.device)
    except FlashMemError:  # bundles travel to where theirs is not
        device = next(iter(simulated_devices().values()))
    return predict(program, device, 2)


def _device(device_id: str) -> DeviceSpec:
    from flashmem_lab.device import simulated_devices
    from flashmem_lab.workflow import open_device

    simulated = simulated_devices()
    return simulated[device_id] if device_id in simulated else open_device(device_id)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *pieces]).astype(np.float64)


def _table(words: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Distinct words in order of appearance, and the number of each one given."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(word, len(known)) for word in words]
    return list(known), np.array(numbers, np.uint32)
