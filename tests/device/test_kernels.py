"""Kernels against NumPy at the edges of their tiles: panels of CPUs, and the tiles of GPUs.

A GPU's kernels run on every device: only what they are measured for differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from math import erf
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab import workflow
from flashmem_lab.bench.kernels import product_graph
from flashmem_lab.device import DeviceSpec
from flashmem_lab.device.tuning import Best, Product, Tile, Tuning
from flashmem_lab.devices import open_device
from flashmem_lab.graph import open_graph
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.lower import Precision, Storage, lower
from flashmem_lab.lower.blocks import TILES
from flashmem_lab.program.render import kernel_directory
from flashmem_lab.runtime.opencl import OpenCLRuntime, open_runtime
from flashmem_lab.units import Budget
from flashmem_lab.workflow import Prepared


@pytest.fixture(scope="module")
def runtime(device_id: str) -> Iterator[OpenCLRuntime]:
    with open_runtime(device_id) as opened:
        yield opened


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (1, 5, 3),  # less than one vector
        (3, 33, 33),  # one more column than a panel
        (9, 256, 64),  # one row more than a tile, a whole block of steps
        (257, 257, 36),  # one row more than a block, one step more
        (8, 600, 100),  # panels of 28 columns
    ],
)
def test_products_at_the_edges_of_tiles(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    m: int,
    k: int,
    n: int,
    kind: str,
    storage: Storage,
    precision: Precision,
) -> None:
    device = replace(open_device(device_id), kind=kind)
    generator = np.random.default_rng(m + k + n)
    a = generator.standard_normal((m, k)).astype(np.float32)
    w = generator.standard_normal((k, n)).astype(np.float32)
    stored = tmp_path / "w.bin"
    w.tofile(stored)
    graph = product_graph(stored, m, k, n)
    model = lower(graph, device, precision=precision, storage=storage)
    prepared = Prepared(graph, model, device, 0, load_ms=0.0)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=tmp_path)
    out = runtime.run(made.program, made.packed.path, {"a": a}).outputs["out"]
    held = w if precision is Precision.FP32 else w.astype(np.float16).astype(np.float32)
    if kind == "gpu" and precision is Precision.FP16 and device.limits.half_arithmetic:
        assert np.linalg.norm(out - a @ held) <= 2e-3 * np.linalg.norm(a @ held)
    else:
        np.testing.assert_allclose(out, a @ held, rtol=1e-4, atol=1e-4)


def saved(
    nodes: list[onnx.NodeProto], x: np.ndarray, weights: dict[str, np.ndarray], folder: Path
) -> Path:
    """The file of a model that goes from x to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "m.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path


def check(
    runtime: OpenCLRuntime,
    device: DeviceSpec,
    folder: Path,
    nodes: list[onnx.NodeProto],
    x: np.ndarray,
    weights: dict[str, np.ndarray],
    storage: Storage | None = None,
) -> None:
    """Runs the nodes from x to y and compares with onnxruntime."""
    path = saved(nodes, x, weights, folder)
    opened = open_graph(path)
    prepared = Prepared(opened, lower(opened, device, storage=storage), device, 0, load_ms=0.0)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=folder)
    got = runtime.run(made.program, made.packed.path, {"x": x}).outputs["y"]
    wanted = reference_outputs(path, {"x": x})["y"]
    scale = float(np.abs(wanted).max())
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize(("rows", "columns"), [(300, 70), (9, 5)])
def test_products_stored_by_columns(
    runtime: OpenCLRuntime, device_id: str, tmp_path: Path, rows: int, columns: int, kind: str
) -> None:
    """Neighbours of the result in memory are its rows: tokens that become planes."""
    device = replace(open_device(device_id), kind=kind)
    generator = np.random.default_rng(9)
    weights = {
        "w": generator.standard_normal((40, columns)).astype(np.float32),
        "b": generator.standard_normal(columns).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["moved"]),
        helper.make_node("Transpose", ["moved"], ["y"], perm=[0, 2, 1]),
    ]
    x = generator.standard_normal((2, rows, 40)).astype(np.float32)
    check(runtime, device, tmp_path, nodes, x, weights)


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        # Blocks of pixels, of channels and of input channels are all passed, with neighbours kept.
        ((1, 20, 24, 24), (70, 20, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((2, 20, 18, 17), (70, 20, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ((1, 150, 17, 16), (36, 150, 1, 1), {}),
        ((1, 24, 9, 30), (80, 12, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 2}),
        # Small planes: vectors of channels, in whole panels and in others, of 1 to 8 pixels.
        ((2, 170, 7, 7), (56, 170, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 400, 14, 14), (64, 400, 1, 1), {}),
        ((1, 150, 8, 5), (32, 150, 1, 1), {}),
        ((1, 40, 1, 1), (70, 40, 1, 1), {}),
        ((1, 40, 11, 11), (128, 20, 3, 3), {"group": 2, "strides": [2, 2]}),
        # Gathered pixels: larger blocks of channels.
        ((1, 20, 27, 27), (520, 20, 1, 1), {"strides": [2, 2]}),
        ((1, 160, 14, 14), (512, 160, 1, 1), {"strides": [2, 2]}),
    ],
)
def test_convolutions_at_the_edges_of_blocks(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    x: tuple[int, ...],
    w: tuple[int, ...],
    attributes: dict[str, object],
    kind: str,
    storage: Storage,
) -> None:
    generator = np.random.default_rng(3)
    device = replace(open_device(device_id), kind=kind)
    weights = {"w": generator.standard_normal(w).astype(np.float32)}
    inputs = generator.standard_normal(x).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)]
    check(runtime, device, tmp_path, nodes, inputs, weights, storage)


def always(device: DeviceSpec, tile: Tile) -> DeviceSpec:
    """The device as a GPU that was tuned to one tile; without room for it, it takes another."""
    one = Product(1, 1, 1, 1)
    best = tuple(Best(kind, one, tile) for kind in ("gemm", "matmul", "conv"))
    return replace(device, kind="gpu", tuning=Tuning(best=best))


def name_of(tile: Tile) -> str:
    return f"{tile.high}x{tile.wide}x{tile.depth}/{tile.slices}/{tile.shares}"


@pytest.mark.parametrize("tile", TILES, ids=name_of)
@pytest.mark.parametrize(
    ("rows", "steps", "columns"),
    [(140, 96, 132), (131, 70, 133)],  # in whole float4s and stages, and in neither
)
def test_products_with_every_tile(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    rows: int,
    steps: int,
    columns: int,
    tile: Tile,
) -> None:
    """A product with a weight from either side: neighbours in memory are steps, then rows."""
    device = always(open_device(device_id), tile)
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
    check(runtime, device, tmp_path, nodes, x, weights, Storage.IMAGE2D)


@pytest.mark.parametrize("tile", TILES, ids=name_of)
@pytest.mark.parametrize(
    ("rows", "steps", "order"), [(132, 64, (0, 2, 1)), (70, 131, (0, 2, 1)), (70, 131, (0, 1, 2))]
)
def test_products_of_activations_with_every_tile(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    rows: int,
    steps: int,
    order: tuple[int, ...],
    tile: Tile,
) -> None:
    """The second factor is read along its rows, or along its columns."""
    device = always(open_device(device_id), tile)
    shape = (2, rows, steps) if order == (0, 2, 1) else (2, steps, steps)
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=list(order)),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    check(runtime, device, tmp_path, nodes, x, {})


@pytest.mark.parametrize("tile", TILES, ids=name_of)
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 64, 12, 13), (70, 64, 3, 3), {"pads": [1, 1, 1, 1]}),  # whole stages of a tap
        ((1, 37, 13, 12), (70, 37, 3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
        ((1, 3, 21, 20), (24, 3, 7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
        ((2, 80, 7, 6), (34, 40, 3, 3), {"group": 2, "dilations": [2, 1]}),
        ((2, 40, 9, 8), (37, 40, 1, 1), {}),  # a product
        ((1, 40, 9, 7), (37, 40, 1, 1), {"strides": [2, 2]}),
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
    device = always(open_device(device_id), tile)
    generator = np.random.default_rng(3)
    weights = {"w": generator.standard_normal(w).astype(np.float32)}
    inputs = generator.standard_normal(x).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)]
    check(runtime, device, tmp_path, nodes, inputs, weights, Storage.IMAGE2D)


@pytest.mark.parametrize("local_memory", [48 * 1024, 16 * 1024, 4 * 1024])
@pytest.mark.parametrize(("heads", "queries", "head"), [(2, 70, 40), (3, 33, 64), (1, 5, 256)])
def test_attention_with_every_team(
    runtime: OpenCLRuntime,
    device_id: str,
    tmp_path: Path,
    heads: int,
    queries: int,
    head: int,
    local_memory: int,
) -> None:
    """More local memory, larger blocks; with too little, one work-item a query."""
    found = open_device(device_id)
    local_memory = min(local_memory, found.limits.local_memory)
    limits = replace(found.limits, local_memory=local_memory)
    device = replace(found, kind="gpu", limits=limits)
    x = np.random.default_rng(8).standard_normal((heads, queries, head)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "keys"], ["products"]),
        helper.make_node("Mul", ["products", "s"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "x"], ["y"]),
    ]
    check(runtime, device, tmp_path, nodes, x, {"s": np.array(0.05, np.float32)})


@pytest.mark.parametrize("group", [1, 16])
@pytest.mark.parametrize("count", [1, 16, 17, 1000, 5000])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LayerNormalization"])
def test_rows_of_every_length(
    runtime: OpenCLRuntime, device_id: str, tmp_path: Path, op: str, count: int, group: int
) -> None:
    """One work-item a row, in vectors and (past 4096 elements) without; or a group a row."""
    device = replace(open_device(device_id), work_group=group)
    x = np.random.default_rng(count).standard_normal((5, count)).astype(np.float32) * 8
    scale = {"s": np.linspace(0.5, 2, count, dtype=np.float32)}
    layer_norm = op == "LayerNormalization"
    nodes = [helper.make_node(op, ["x", "s"] if layer_norm else ["x"], ["y"], axis=-1)]
    check(runtime, device, tmp_path, nodes, x, scale if layer_norm else {})


def test_erf_is_exact_to_some_ulp(runtime: OpenCLRuntime, device_id: str, tmp_path: Path) -> None:
    edges = np.array([0.0, -0.0, 1.0, -1.0, 4.0, 1e-20, 30.0, np.inf, -np.inf])
    x = np.concatenate([np.linspace(-6, 6, 40_001), edges]).astype(np.float32)
    stored = tmp_path / "erf.onnx"
    graph = helper.make_graph(
        [helper.make_node("Erf", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), stored)
    device = open_device(device_id)
    opened = open_graph(stored)
    prepared = Prepared(opened, lower(opened, device), device, 0, load_ms=0.0)
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0))
    made = workflow.compile_plan(prepared, plan, cache=tmp_path)
    got = runtime.run(made.program, made.packed.path, {"x": x}).outputs["y"]
    wanted = np.array([erf(value) for value in x.astype(np.float64)])
    assert np.abs(got - wanted).max() <= 2e-7
    np.testing.assert_allclose(got, wanted, rtol=4 * 2**-23)


def test_no_function_is_passed_local_memory() -> None:
    """PoCL 3.1 lets its threads share a work-group's array then: one run in a thousand is wrong."""
    sources = [path for path in kernel_directory().iterdir() if path.suffix in (".cl", ".h")]
    assert len(sources) > 10
    for source in sources:
        plain = re.sub(r"\{([{%#]).*?[}%#]\}", "", source.read_text(), flags=re.DOTALL)
        assert not re.search(r"\([^;{}()]*__local\b[^;{}()]*\)\s*\{", plain), source.name
