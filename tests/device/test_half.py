"""Products in half precision, where a device has it; elsewhere the same kernels with floats.

A device without `cl_khr_fp16` cannot compile them, so there `half` is made to mean `float`, though
what is narrowed to it is rounded as half precision would: where everything lies, what is added to
what and what happens beyond 65504 is tested, and the rounding of sums is not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flashmem_lab import workflow
from flashmem_lab.device import DeviceSpec
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

FLOATS = """
float rounded(float x) {
  ushort bits;
  vstore_half(x, 0, (half*)&bits);
  return vload_half(0, (half*)&bits);
}
float4 rounded4(float4 x) {
  return (float4)(rounded(x.x), rounded(x.y), rounded(x.z), rounded(x.w));
}
#define half float
#define half4 float4
#define convert_half rounded
#define convert_half4 rounded4
"""
_ENABLED = "#pragma OPENCL EXTENSION cl_khr_fp16 : enable"
ATTENTION = [
    helper.make_node("Transpose", ["x"], ["keys"], perm=[0, 2, 1]),
    helper.make_node("MatMul", ["x", "keys"], ["products"]),
    helper.make_node("Mul", ["products", "scale"], ["scores"]),
    helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
    helper.make_node("MatMul", ["shares", "x"], ["y"]),
]
ROUNDED = {True: 2e-3, False: 5e-4}  # relative L2 error, with half arithmetic and with half weights
NARROWED = 2e-3  # and of any part of the result, whatever the device has


def as_floats(source: KernelSource) -> KernelSource:
    return replace(source, source=FLOATS + source.source.replace(_ENABLED, ""))


def check(
    runtime: OpenCLRuntime,
    device: DeviceSpec,
    folder: Path,
    nodes: list[onnx.NodeProto],
    x: np.ndarray,
    weights: dict[str, np.ndarray],
    alike: int | tuple[int, ...] = -1,
) -> tuple[str, ...]:
    """Runs the nodes from x to y in half precision and compares with onnxruntime.

    Args:
        alike: axes of y along which it is as large everywhere; errors count beside what is there.

    Returns:
        The kernels that were in half precision.
    """
    has, limits = device.limits.half_arithmetic, replace(device.limits, half_arithmetic=True)
    device = replace(device, kind="gpu", limits=limits)
    path = saved(nodes, x, weights, folder)
    graph = open_graph(path)
    model = lower(graph, device, precision=Precision.FP16, storage=Storage.IMAGE2D)
    prepared = Prepared(graph, model, device, 0, load_ms=0.0)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=folder)
    program = made.program
    if not has:
        program = replace(program, kernels=tuple(as_floats(one) for one in program.kernels))
    got = runtime.run(program, made.packed.path, {"x": x}).outputs["y"]
    wanted = reference_outputs(path, {"x": x})["y"]
    assert np.linalg.norm(got - wanted) <= ROUNDED[has] * np.linalg.norm(wanted)
    wrong, there = (np.sqrt(np.sum(y**2, axis=alike)) for y in (got - wanted, wanted))
    assert (wrong / there).max() <= NARROWED
    return tuple(one.entry for one in made.program.kernels if _ENABLED in one.source)


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
    device = always(open_device(device_id), tile)
    assert check(runtime, device, tmp_path, nodes, x, weights) == ("block_product",) * 2


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
    device = always(open_device(device_id), tile)
    made = check(runtime, device, tmp_path, nodes, inputs, weights, alike=(0, 1, 2))
    assert len(made) == 1


@pytest.mark.parametrize("local_memory", [48 * 1024, 16 * 1024])
@pytest.mark.parametrize(("heads", "queries", "head"), [(2, 70, 40), (3, 33, 64), (1, 90, 36)])
def test_attention_with_every_team(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    heads: int,
    queries: int,
    head: int,
    local_memory: int,
) -> None:
    found = open_device(device_id)
    local_memory = min(local_memory, found.limits.local_memory)
    device = replace(found, limits=replace(found.limits, local_memory=local_memory))
    x = np.random.default_rng(8).standard_normal((heads, queries, head)).astype(np.float32)
    scale = {"scale": np.array(0.05, np.float32)}
    assert check(runtime, device, tmp_path, ATTENTION, x, scale) == ("block_attention",)


LARGE = 1e5  # beyond half precision's 65504
SOME_TILES = TILES[3:8:3]  # with teams and shares, and with teams


@pytest.mark.parametrize("tile", SOME_TILES, ids=name_of)
def test_products_beyond_half_precision_are_computed_again(
    runtime: OpenCLRuntime, device_id: str, tmp_path: Path, tile: Tile
) -> None:
    """Inputs that it does not hold, and inputs whose sums it does not hold."""
    generator = np.random.default_rng(5)
    x = generator.standard_normal((131, 70)).astype(np.float32)
    x[::9] *= LARGE
    x[3::9] = np.abs(x[3::9]) * 3e4
    weights = {"w": np.abs(generator.standard_normal((70, 133))).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    device = always(open_device(device_id), tile)
    assert check(runtime, device, tmp_path, nodes, x, weights) == ("block_product",)


@pytest.mark.parametrize("tile", SOME_TILES, ids=name_of)
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 37, 12, 13), (70, 37, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 3, 21, 20), (24, 3, 7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
        ((2, 80, 7, 6), (34, 40, 3, 3), {"group": 2, "dilations": [2, 1]}),
    ],
)
def test_convolutions_beyond_half_precision_are_computed_again(
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
    inputs[..., x[-1] // 2 :] *= LARGE
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)]
    device = always(open_device(device_id), tile)
    made = check(runtime, device, tmp_path, nodes, inputs, weights, alike=(0, 1, 2))
    assert made == ("block_conv",)


@pytest.mark.parametrize("largest", [300, LARGE])
def test_attention_beyond_half_precision_is_computed_again(
    runtime: OpenCLRuntime, device_id: str, tmp_path: Path, largest: float
) -> None:
    """Scores that it does not hold; then queries, keys and values too."""
    x = np.random.default_rng(8).standard_normal((2, 70, 40)).astype(np.float32)
    scale = {"scale": np.array(0.05 / largest**2, np.float32)}
    device = open_device(device_id)
    made = check(runtime, device, tmp_path, ATTENTION, x * np.float32(largest), scale)
    assert made == ("block_attention",)


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
