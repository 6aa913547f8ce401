"""The whole way for tests: ONNX nodes or a file and their inputs in, the device's outputs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flashmem_lab.device import DeviceSpec
from flashmem_lab.graph import open_graph
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.lower import LoweredModel, Precision, Storage, lower
from flashmem_lab.plan import check_plan, make_plan
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.units import Budget

Arrays = Mapping[str, np.ndarray]


def save_nodes(
    folder: Path, nodes: Sequence[onnx.NodeProto], inputs: Arrays, weights: Arrays
) -> Path:
    """Writes a graph of opset 20 with these inputs and initializers; its output is `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "m.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path


def run_model(
    path: Path,
    inputs: Arrays,
    runtime: OpenCLRuntime,
    *,
    device: DeviceSpec | None = None,
    precision: Precision = Precision.FP32,
    storage: Storage | None = None,
    unfused: Iterable[str] = (),
    budget: str = "0%",
) -> tuple[LoweredModel, RunResult]:
    """Opens, lowers, plans, checks, packs (beside the file), builds and runs a model once.

    Args:
        path: the .onnx file.
        inputs: arrays by name; their shapes are those of the graph's inputs.
        runtime: open on a device.
        device: that device with other limits or of another kind; by default as it is.
        precision: of the weights.
        storage: of the weights.
        unfused: values whose fusions are undone.
        budget: as the command line takes it.
    """
    device = device or runtime.spec
    graph = open_graph(path, shapes={name: array.shape for name, array in inputs.items()})
    model = lower(graph, device, precision=precision, storage=storage, unfused=unfused)
    plan = make_plan(model, device, budget=Budget.parse(budget))
    check_plan(plan, model, device)
    packed = pack_weights(model, path.parent / "cache")
    return model, runtime.run(build_program(plan, model, packed), packed.path, inputs)


def compare(
    folder: Path,
    runtime: OpenCLRuntime,
    nodes: Sequence[onnx.NodeProto],
    inputs: Arrays,
    weights: Arrays,
    *,
    precision: Precision = Precision.FP32,
    storage: Storage | None = None,
    budget: str = "0%",
    kind: str | None = None,
    on_device: bool = True,
) -> LoweredModel:
    """Runs the nodes here and in onnxruntime: outputs agree, and (unless told) none is the host's.

    With `kind`, the kernels are those of that class of devices: each device runs them all.

    Returns:
        What ran.
    """
    device = runtime.spec if kind is None else replace(runtime.spec, kind=kind)
    path = save_nodes(folder, nodes, inputs, weights)
    model, result = run_model(
        path, inputs, runtime, device=device, precision=precision, storage=storage, budget=budget
    )
    wanted = reference_outputs(path, inputs)["y"]
    got = result.outputs["y"]
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    scale = max(1e-3, float(np.abs(wanted.astype(np.float64)).max()))
    tolerance = 2e-5 if precision is Precision.FP32 else 4e-3
    assert float(np.abs(got.astype(np.float64) - wanted).max()) <= tolerance * scale
    if on_device:
        assert [layer.name for layer in model.layers if layer.kind == "host"] == []
    return model
