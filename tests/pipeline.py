"""The whole way for tests: an ONNX file and its inputs in, the device's outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashmem_lab.graph import open_graph
from flashmem_lab.lower import LoweredModel, Precision, Storage, lower
from flashmem_lab.plan import check_plan, make_plan
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.opencl import list_devices, open_runtime
from flashmem_lab.units import Budget


def run_model(
    path: Path,
    inputs: Mapping[str, np.ndarray],
    device_id: str,
    cache: Path,
    *,
    precision: Precision = Precision.FP32,
    storage: Storage | None = None,
    budget: str = "30%",
) -> tuple[LoweredModel, RunResult]:
    """Opens, lowers, packs, plans, checks, builds and runs a model once."""
    device = next(d for d in list_devices() if d.id == device_id)
    graph = open_graph(path, shapes={name: array.shape for name, array in inputs.items()})
    model = lower(graph, device, precision=precision, storage=storage)
    plan = make_plan(model, device, budget=Budget.parse(budget))
    check_plan(plan, model, device)
    packed = pack_weights(model, cache)
    runtime = open_runtime(device_id)
    try:
        return model, runtime.run(build_program(plan, model, packed), packed.path, inputs)
    finally:
        runtime.close()
