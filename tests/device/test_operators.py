"""Operators on the device against onnxruntime, over shapes that do not fit tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flashmem_lab.lower import Precision, Storage
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import compare

KINDS = ("cpu", "gpu")  # by which kernels are chosen; oclgrind's device, for one, is no CPU
RNG = np.random.default_rng(7)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), ["y"], name=op, **attributes)


CONVOLUTIONS = {
    "3x3": ((1, 5, 9, 11), (7, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    "1x1": ((2, 6, 5, 7), (9, 6, 1, 1), {}),
    "strided": ((1, 3, 17, 19), (8, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "dilated": ((1, 4, 15, 15), (6, 4, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "uneven pads": ((1, 4, 8, 9), (4, 4, 2, 3), {"pads": [0, 2, 1, 0]}),
    "grouped": ((1, 12, 7, 7), (18, 4, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "odd groups": ((1, 10, 7, 7), (14, 5, 3, 3), {"group": 2}),
    "depthwise": ((1, 13, 8, 21), (13, 1, 5, 5), {"group": 13, "pads": [2, 2, 2, 2]}),
    "depthwise strided": ((1, 8, 9, 9), (8, 1, 3, 3), {"group": 8, "strides": [2, 2]}),
    "multiplier": ((1, 4, 6, 6), (8, 1, 3, 3), {"group": 4}),
    "same upper": ((1, 3, 10, 11), (5, 3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    "one dimension": ((2, 3, 31), (6, 3, 4), {"strides": [2], "pads": [1, 2]}),
    "wide": ((1, 2, 1, 70), (4, 2, 1, 3), {"pads": [0, 1, 0, 1]}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", KINDS)
def test_convolution(
    case: str, storage: Storage, kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    x, w, attributes = CONVOLUTIONS[case]
    weights = {"w": random(*w), "b": random(w[0])}
    compare(
        tmp_path,
        runtime,
        [node("Conv", "x w b", **attributes)],
        {"x": random(*x)},
        weights,
        storage=storage,
        kind=kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_convolution_to_one_row_of_a_piece_of_longer_rows(
    kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["piece"], name="slice"),
        node("Conv", "piece w", pads=[0, 1, 0, 1]),
    ]
    ends = {"from": np.array([0]), "to": np.array([33]), "axis": np.array([3])}
    weights = {"w": random(8, 4, 3, 3), **ends}
    compare(tmp_path, runtime, nodes, {"x": random(1, 4, 3, 40)}, weights, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_convolution_of_channels_in_reverse(
    kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    # The last channel lies first in memory: its padding must not be read from before the buffer.
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis", "step"], ["turned"], name="slice"),
        node("Conv", "turned w", pads=[1, 1, 1, 1]),
    ]
    ends = {"from": np.array([-1]), "to": np.array([-100])}
    cut = {**ends, "axis": np.array([1]), "step": np.array([-1])}
    weights = {"w": random(8, 5, 3, 3), **cut}
    compare(tmp_path, runtime, nodes, {"x": random(1, 5, 9, 40)}, weights, kind=kind)


TRANSPOSED = {
    "2x2": ((1, 6, 5, 7), (6, 5, 2, 2), {"strides": [2, 2]}),
    "overlap": ((1, 3, 6, 6), (3, 4, 3, 3), {"strides": [2, 1], "pads": [1, 0, 1, 1]}),
    "output padding": ((1, 4, 5, 5), (4, 3, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}),
    "grouped": ((1, 6, 4, 4), (6, 5, 3, 3), {"group": 2, "dilations": [1, 2]}),
    "output shape": ((1, 2, 4, 4), (2, 3, 3, 3), {"strides": [3, 3], "output_shape": [12, 11]}),
    "three dimensions": (
        (2, 4, 3, 4, 5),
        (4, 3, 3, 2, 3),
        {"strides": [2, 1, 2], "pads": [1, 0, 1, 2, 0, 1], "group": 2},
    ),
    "deep padding": ((1, 2, 6, 3, 3), (2, 3, 2, 3, 3), {"pads": [2, 0, 0, 2, 0, 0]}),
    "rows of two vectors": (
        (2, 5, 9, 40), (5, 70, 3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "several blocks": ((1, 150, 7, 67), (150, 9, 4, 4), {"strides": [4, 4]}),
    "pixels that no tap reaches": ((1, 3, 5, 18), (3, 6, 1, 2), {"strides": [2, 3]}),
    "stride 1": ((1, 4, 9, 21), (4, 6, 3, 5), {"pads": [1, 2, 1, 2]}),
    "dilated by the stride": ((1, 4, 6, 9), (4, 5, 3, 3), {"strides": [2, 2], "dilations": [2, 3]}),
    "one dimension": ((2, 3, 50), (3, 4, 7), {"strides": [3], "pads": [2, 1]}),
}  # fmt: skip


@pytest.mark.parametrize("case", TRANSPOSED)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", KINDS)
def test_transposed_convolution(
    case: str, storage: Storage, kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    x, w, attributes = TRANSPOSED[case]
    nodes = [node("ConvTranspose", "x w b", **attributes)]
    weights = {"w": random(*w), "b": random(w[1] * int(attributes.get("group", 1)))}
    compare(tmp_path, runtime, nodes, {"x": random(*x)}, weights, storage=storage, kind=kind)


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_transposed_convolution_in_half_precision_is_part_of_it(
    storage: Storage, kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["c"], name="c", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        node("Add", "r z"),
    ]
    inputs = {"x": random(1, 12, 9, 19), "z": random(1, 35, 18, 38)}
    weights = {"w": random(12, 35, 2, 2), "b": random(35)}
    model = compare(
        tmp_path, runtime, nodes, inputs, weights,
        precision=Precision.FP16, storage=storage, kind=kind,
    )  # fmt: skip
    assert len(model.layers) == 1


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 7, 5), (5, 64, 66), (33, 31, 129)])
@pytest.mark.parametrize("kind", KINDS)
def test_product_with_a_weight(
    kind: str,
    rows: int,
    depth: int,
    columns: int,
    precision: Precision,
    storage: Storage,
    runtime: OpenCLRuntime,
    tmp_path: Path,
) -> None:
    compare(
        tmp_path,
        runtime,
        [node("Gemm", "x w b", transB=1, alpha=0.5, beta=2.0)],
        {"x": random(rows, depth)},
        {"w": random(columns, depth), "b": random(columns)},
        precision=precision,
        storage=storage,
        kind=kind,
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 5, 7), (3, 7, 6)),
        ((2, 1, 5, 4), (3, 4, 9)),
        ((1, 4), (2, 3, 4, 1)),
        ((2, 3, 2, 5, 4), (2, 3, 1, 4, 6)),
    ],
)
def test_product_of_activations_broadcasts(
    left, right, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    inputs = {"a": random(*left), "b": random(*right)}
    compare(tmp_path, runtime, [node("MatMul", "a b")], inputs, {})


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("bhid,bhjd->bhij", (1, 3, 5, 4), (1, 3, 6, 4)),
        ("b h i j, h g -> b g i j", (2, 3, 4, 5), (3, 6)),
        ("bij,bjk->kib", (2, 3, 4), (2, 4, 5)),
        ("ij,kl->ikjl", (2, 3), (4, 5)),
        ("abc,cb->a", (3, 4, 5), (5, 4)),
        ("...ij,jk->...ki", (2, 3, 4, 5), (5, 6)),
        ("ijk,kl", (2, 3, 4), (4, 5)),
    ],
)
def test_einsum_of_two(equation, left, right, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    inputs = {"a": random(*left), "b": random(*right)}
    compare(tmp_path, runtime, [node("Einsum", "a b", equation=equation)], inputs, {})


def test_a_weight_on_the_left(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    inputs = {"x": random(2, 9, 5)}
    compare(tmp_path, runtime, [node("MatMul", "w x")], inputs, {"w": random(40, 9)})


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
def test_a_product_deeper_than_the_tallest_image_is_folded(
    precision: Precision, storage: Storage, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    depth = 40_003  # every known device stops at 32,768 rows; odd, so that parts are padded
    inputs, weights = {"x": random(2, depth) / 64}, {"w": random(depth, 8) / 64}
    nodes = [node("MatMul", "x w")]
    compare(tmp_path, runtime, nodes, inputs, weights, precision=precision, storage=storage)


def test_a_product_wider_than_one_image_is_tiled(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"w": random(8, 70_000)}
    compare(tmp_path, runtime, [node("MatMul", "x w")], {"x": random(3, 8)}, weights)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_on_every_axis(op: str, axis: int, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    compare(tmp_path, runtime, [node(op, "x", axis=axis)], {"x": random(3, 5, 17)}, {})


def test_softmax_of_a_masked_row_ignores_what_is_masked(
    runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    x = random(4, 9)
    x[:, 5:] = -np.inf
    compare(tmp_path, runtime, [node("Softmax", "x")], {"x": x}, {})


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(axis: int, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"s": random(6, 7), "b": random(6, 7)}
    if axis == -1:
        weights = {name: array[0] for name, array in weights.items()}
    nodes = [node("LayerNormalization", "x s b", axis=axis)]
    compare(tmp_path, runtime, nodes, {"x": random(5, 6, 7) + 40}, weights)


def test_instance_norm(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    nodes = [node("InstanceNormalization", "x s b")]
    compare(tmp_path, runtime, nodes, {"x": random(2, 3, 5, 7)}, {"s": random(3), "b": random(3)})


def test_instance_norm_of_a_long_row_far_from_zero(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """Its mean, summed in float32, is off by 1e-6: a good part of a small deviation."""
    nodes = [node("InstanceNormalization", "x s b")]
    weights = {"s": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    compare(tmp_path, runtime, nodes, {"x": random(1, 2, 160, 160) / 100 + 1}, weights)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd"])
@pytest.mark.parametrize("axes", [[-1], [0, 2], [1]])
def test_reductions(op: str, axes: list[int], runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"axes": np.array(axes)}
    compare(tmp_path, runtime, [node(op, "x axes", keepdims=0)], {"x": random(3, 4, 5)}, weights)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    ],
)
def test_pooling(op: str, attributes, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    compare(tmp_path, runtime, [node(op, "x", **attributes)], {"x": random(2, 3, 9, 11)}, {})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_resize(mode: str, coordinates: str, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    nodes = [node("Resize", "x  s", mode=mode, coordinate_transformation_mode=coordinates)]
    nodes[0].input[:] = ["x", "", "s"]
    weights = {"s": np.array([1, 1, 2, 3], np.float32)}
    compare(tmp_path, runtime, nodes, {"x": random(1, 3, 5, 4)}, weights)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode: str, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"p": np.array([0, 0, 1, 2, 0, 1, 3, 1]), "v": np.array(1.5, np.float32)}
    compare(
        tmp_path, runtime, [node("Pad", "x p v", mode=mode)], {"x": random(1, 2, 5, 6)}, weights
    )


def test_gather_by_computed_indices(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["i", "one"], ["j"], name="add"),
        node("Gather", "x j", axis=1),
    ]
    inputs = {"x": random(3, 8, 5), "i": np.array([[0, 3], [-2, 6]])}
    compare(tmp_path, runtime, nodes, inputs, {"one": np.array(1)})


def test_more_operands_than_a_kernel_takes(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    inputs = {f"x{at}": random(3, 5) for at in range(20)}
    for op in ("Max", "Mean"):
        compare(tmp_path, runtime, [node(op, " ".join(inputs))], inputs, {})


@pytest.mark.parametrize(("fmod", "kind"), [(0, "int64"), (1, "int32"), (1, "float32")])
def test_remainders_keep_their_sign(
    fmod: int, kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    inputs = {
        "a": (random(4, 7) * 20).astype(kind),
        "b": np.array(7, kind) * [[-1], [1], [1], [-1]],
    }
    inputs["b"] = inputs["b"].astype(kind)
    compare(tmp_path, runtime, [node("Mod", "a b", fmod=fmod)], inputs, {})


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND", "GatherND"])
def test_constant_indices_become_a_table(op: str, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    index = {
        "ScatterElements": [[3, 1, 0], [2, -1, 3]],
        "ScatterND": [[3, 1], [0, -2], [3, 1]],  # the last of two wins
        "GatherND": [[[1, 4], [0, 0]], [[-1, 2], [3, 3]]],
    }[op]
    inputs = {"x": random(4, 5)}
    if op.startswith("Scatter"):
        inputs["u"] = random(2, 3) if op == "ScatterElements" else random(3)
    names = "x i u" if "u" in inputs else "x i"
    compare(tmp_path, runtime, [node(op, names)], inputs, {"i": np.array(index)})


def test_a_scatter_that_adds_runs_on_the_host(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"i": np.array([[1], [1]])}
    inputs = {"x": random(4, 5), "u": random(2, 5)}
    nodes = [node("ScatterND", "x i u", reduction="add")]
    compare(tmp_path, runtime, nodes, inputs, weights, on_device=False)


def test_local_response_and_triangles(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LRN", ["x"], ["l"], name="l", size=5, alpha=0.3, bias=2.0),
        node("Trilu", "l k", upper=0),
    ]
    compare(tmp_path, runtime, nodes, {"x": random(2, 7, 3, 5)}, {"k": np.array(1)})


def test_where_with_a_mask_and_a_cast(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Greater", ["x", "z"], ["m"], name="g"),
        helper.make_node("Cast", ["m"], ["f"], name="c", to=TensorProto.FLOAT),
        helper.make_node("Where", ["m", "x", "f"], ["w"], name="w"),
        node("Mul", "w x"),
    ]
    compare(tmp_path, runtime, nodes, {"x": random(3, 5), "z": random(5)}, {})


def test_a_copy_written_backwards_and_in_steps(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    weights = {"s": np.array([6, 0]), "e": np.array([-10, 5]), "a": np.array([0, 1])}
    weights["t"] = np.array([-2, 2])
    compare(tmp_path, runtime, [node("Slice", "x s e a t")], {"x": random(7, 6, 3)}, weights)


def test_an_operator_of_the_host_between_two_kernels(
    runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="r"),
        helper.make_node("LpNormalization", ["r"], ["c"], name="c"),
        node("Exp", "c"),
    ]
    compare(tmp_path, runtime, nodes, {"x": random(4, 5)}, {}, on_device=False)


def test_a_weight_of_a_host_node_stays_on_the_host(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """A large table of a node without kernel is read from disk, not held on the device."""
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], name="t"),
        node("GatherElements", "table i", axis=1),
    ]
    weights = {"table": random(3, 4000), "k": np.array([5])}
    inputs = {"x": random(3, 9)}
    compare(tmp_path, runtime, nodes, inputs, weights, on_device=False)


STORED = {
    "a vector for the outputs": ("Mul", (96, 1, 1, 1)),
    "a divisor for the inputs": ("Div", (1, 40, 1, 1)),
    "one number": ("Mul", (1,)),
}


@pytest.mark.parametrize("case", STORED)
def test_a_weight_scaled_along_an_axis_stays_a_weight(
    case: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    op, shape = STORED[case]
    weights = {"w": random(96, 40, 3, 3), "s": np.abs(random(*shape)) + np.float32(0.5)}
    scaled = helper.make_node(op, ["w", "s"], ["v"], name="scaled")
    compare(tmp_path, runtime, [scaled, node("Conv", "x v")], {"x": random(1, 40, 6, 5)}, weights)


def test_a_normalised_weight_stays_a_weight(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """As torch's dynamo exporter writes `weight_norm`."""
    nodes = [
        helper.make_node("ReduceL2", ["v", "axes"], ["n"], name="norm"),
        helper.make_node("Div", ["v", "n"], ["u"], name="unit"),
        helper.make_node("Mul", ["g", "u"], ["w"], name="weight"),
        node("Conv", "x w"),
    ]
    weights = {"v": random(64, 64, 9), "g": random(64, 1, 1), "axes": np.array([1, 2])}
    compare(tmp_path, runtime, nodes, {"x": random(1, 64, 31)}, weights)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8])
def test_a_weight_stored_in_another_type_stays_a_weight(
    kind: type[np.generic], runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    cast = helper.make_node("Cast", ["w"], ["v"], name="cast", to=TensorProto.FLOAT)
    weights = {"w": (random(384, 40, 3, 3) * 9).astype(kind)}
    inputs = {"x": random(1, 40, 6, 5)}
    compare(tmp_path, runtime, [cast, node("Conv", "x v")], inputs, weights)


@pytest.mark.parametrize("zero", [None, 0, 3])
def test_quantised_weights_and_activations(zero, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """A zero that is not 0 leaves the weight to be made at run time, which MatMul can take."""
    weights = {
        "w": RNG.integers(-127, 127, (36, 50)).astype(np.int8),
        "ws": np.abs(random(50)) / 100,
        "xs": np.array(0.02, np.float32),
        "xz": np.array(-5, np.int8),
    }
    read = ["w", "ws"]
    if zero is not None:
        weights["wz"] = np.full(50, zero, np.int8)
        read.append("wz")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["f"], name="f"),
        helper.make_node("DequantizeLinear", read, ["v"], name="v", axis=1),
        node("MatMul", "f v"),
    ]
    compare(tmp_path, runtime, nodes, {"x": 3 * random(7, 36)}, weights)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quantised_along_an_axis(
    kind: type[np.integer], runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    ends = np.iinfo(kind)
    weights = {
        "s": np.abs(random(5)) / ends.max + np.float32(1e-6),
        "z": np.linspace(ends.min, ends.max, 5).astype(kind),
    }
    nodes = [node("QuantizeLinear", "x s z", axis=-3)]
    compare(tmp_path, runtime, nodes, {"x": random(2, 5, 4, 3)}, weights)
