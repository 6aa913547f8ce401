"""Products in half precision, where a device has it; elsewhere the same kernels with floats.

A device without `cl_khr_fp16` cannot compile them, so there `half` is made to mean `float`: where
everything lies and what is added to what is tested, and the rounding is not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flashmem_lab import workflow
from flashmem_lab.device.tuning import Tile
from flashmem_lab.devices import open_device
from flashmem_lab.graph import open_graph
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.lower import Precision, Storage, lower
from flashmem_lab.lower.blocks import TILES
from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.units import Budget
from flashmem_lab.workflow import Prepared
from tests.device.test_kernels import always, name_of, saved

FLOATS = """#define half float
#define half4 float4
#define convert_half4(x) (x)
"""
_ENABLED = "#pragma OPENCL EXTENSION cl_khr_fp16 : enable"
ROUNDED = {True: 2e-3, False: 5e-4}  # relative L2 error, with half arithmetic and with half weights


def as_floats(source: KernelSource) -> KernelSource:
    return replace(source, source=FLOATS + source.source.replace(_ENABLED, ""))


def check(
    runtime: OpenCLRuntime,
    device_id: str,
    tile: Tile,
    folder: Path,
    nodes: list[onnx.NodeProto],
    x: np.ndarray,
    weights: dict[str, np.ndarray],
) -> None:
    """Runs the nodes from x to y in half precision and compares with onnxruntime."""
    opened = open_device(device_id)
    has = opened.limits.half_arithmetic
    limits = replace(opened.limits, half_arithmetic=True)
    device = always(replace(opened, limits=limits), tile)
    path = saved(nodes, x, weights, folder)
    graph = open_graph(path)
    model = lower(graph, device, precision=Precision.FP16, storage=Storage.IMAGE2D)
    prepared = Prepared(graph, model, device, 0, load_ms=0.0)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=folder)
    products = [one for one in made.program.kernels if "half4" in one.source]
    assert products, "in half precision"
    program = made.program
    if not has:
        program = replace(program, kernels=tuple(as_floats(one) for one in program.kernels))
    got = runtime.run(program, made.packed.path, {"x": x}).outputs["y"]
    wanted = reference_outputs(path, {"x": x})["y"]
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert error <= ROUNDED[has]


@pytest.mark.parametrize("tile", TILES[::2], ids=name_of)
@pytest.mark.parametrize(("rows", "steps", "columns"), [(140, 96, 132), (131, 70, 133)])
def test_products_with_every_tile(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    rows: int,
    steps: int,
    columns: int,
    tile: Tile,
) -> None:
    generator = np.random.default_rng(5)
    weights = {
        "w": generator.standard_normal((steps, columns)).astype(np.float32),
        "left": generator.standard_normal((columns, rows)).astype(np.float32),
    }
    x = generator.standard_normal((rows, steps)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("MatMul", ["left", "first"], ["y"]),
    ]
    check(runtime, device_id, tile, tmp_path, nodes, x, weights)


@pytest.mark.parametrize("tile", TILES[::2], ids=name_of)
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 64, 12, 13), (70, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 3, 21, 20), (24, 3, 7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
        ((2, 40, 9, 8), (37, 40, 1, 1), {}),
    ],
)
def test_convolutions_with_every_tile(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    x: tuple[int, ...],
    w: tuple[int, ...],
    attributes: dict[str, object],
    tile: Tile,
) -> None:
    generator = np.random.default_rng(3)
    weights = {"w": generator.standard_normal(w).astype(np.float32)}
    inputs = generator.standard_normal(x).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)]
    check(runtime, device_id, tile, tmp_path, nodes, inputs, weights)


def test_only_weights_in_half_precision_are_multiplied_in_it(
    device_id: str, tmp_path: Path
) -> None:
    device = replace(open_device(device_id), kind="gpu")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    square = np.ones((64, 64), np.float32)
    graph = open_graph(saved([product], square, {"w": square}, tmp_path))
    for precision in Precision:
        for has in (True, False):
            limits = replace(device.limits, half_arithmetic=has)
            model = lower(graph, replace(device, limits=limits), precision=precision)
            (call,) = (layer.work for layer in model.layers)
            wanted = has and precision is Precision.FP16
            assert dict(call.params)["half"] == int(wanted)  # type: ignore[union-attr]
