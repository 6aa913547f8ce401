"""Lowering small graphs: what is fused, what costs nothing, what is split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab.device import simulated_devices
from flashmem_lab.device.spec import WITH_FUNCTION, DeviceSpec
from flashmem_lab.errors import ModelError, UsageError
from flashmem_lab.graph import open_graph
from flashmem_lab.lower import LoweredModel, Precision, Storage, lower
from flashmem_lab.lower.layer import HostCall, KernelCall, RowFetch

CPU = simulated_devices()["sim:pocl"]


def lowered(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray],
    *,
    device: DeviceSpec = CPU,
    precision: Precision = Precision.FP32,
    storage: Storage | None = None,
    integer_inputs: tuple[str, ...] = (),
    unfused: tuple[str, ...] = (),
) -> LoweredModel:
    kinds = {n: TensorProto.INT64 if n in integer_inputs else TensorProto.FLOAT for n in inputs}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kinds[n], s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return lower(open_graph(path), device, precision=precision, storage=storage, unfused=unfused)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def kinds(model: LoweredModel) -> list[str]:
    return [layer.kind for layer in model.layers]


# A product, its bias, GELU as exporters write it out, and a residual.
GELU = [
    node("MatMul", "x w", "p"),
    node("Add", "p b", "h"),
    node("Div", "h root", "d"),
    node("Erf", "d", "e"),
    node("Add", "e one", "a"),
    node("Mul", "h a", "m"),
    node("Mul", "m half", "g"),
    node("Add", "g x", "y"),
]
GELU_SCALARS = {
    name: np.array(value, np.float32) for name, value in (("half", 0.5), ("root", 1.4), ("one", 1))
}


def test_gelu_and_bias_and_residual_join_the_product(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        GELU,
        {"x": (1, 6, 32)},
        {"y": (1, 6, 32)},
        {"w": random(32, 32), "b": random(32), **GELU_SCALARS},
    )
    assert kinds(model) == ["gemm" + WITH_FUNCTION], "and erf makes it dearer"
    assert set(model.layers[0].nodes) == {"p", "h", "d", "e", "a", "m", "g", "y"}


def test_attention_needs_no_copy(tmp_path: Path) -> None:
    """Heads are split and joined by strides: products and a softmax, nothing else."""
    shape = {"heads": np.array([1, 7, 4, 8]), "joined": np.array([1, 7, 32])}
    split = []
    for name in "qkv":
        split += [
            node("MatMul", f"x w{name}", f"{name}0"),
            node("Reshape", f"{name}0 heads", f"{name}1"),
            node("Transpose", f"{name}1", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    model = lowered(
        tmp_path,
        [
            *split,
            node("MatMul", "q k", "s"),
            node("Softmax", "s", "p"),
            node("MatMul", "p v", "o"),
            node("Transpose", "o", "t", perm=[0, 2, 1, 3]),
            node("Reshape", "t joined", "j"),
            node("MatMul", "j wo", "y"),
        ],
        {"x": (1, 7, 32)},
        {"y": (1, 7, 32)},
        {**{f"w{n}": random(32, 32) for n in "qkvo"}, **shape},
    )
    assert kinds(model) == ["gemm"] * 3 + ["attention", "gemm"]
    assert model.eliminated == {"Reshape": 3, "Transpose": 4}


@pytest.mark.parametrize(
    ("softmax", "also", "head", "joined"),
    [
        ("Softmax", "", 64, True),
        ("Softmax", "", 256, True),
        ("Softmax", "", 257, False),  # rows would outgrow private memory
        ("LogSoftmax", "", 64, False),
        ("Softmax", "scores", 64, False),  # another reader wants what would not be written
        ("Softmax", "weights", 64, False),
    ],
)
def test_attention_is_joined_where_nothing_else_needs_its_scores(
    softmax: str, also: str, head: int, joined: bool, tmp_path: Path
) -> None:
    nodes = [
        node("MatMul", "q k", "scores"),
        node(softmax, "scores", "weights", axis=-1),
        node("MatMul", "weights v", "y"),
    ]
    outputs = {"y": (2, 3, 5, 8)}
    if also:
        nodes.append(node("Relu", also, "z"))
        outputs["z"] = (2, 3, 5, 7)
    inputs = {"q": (2, 3, 5, head), "k": (2, 3, head, 7), "v": (2, 3, 7, 8)}
    model = lowered(tmp_path, nodes, inputs, outputs, {})
    assert ("attention" in kinds(model)) == joined
    if joined:
        assert model.buffers.keys() == {"q", "k", "v", "y"}
        assert [part.kind for part in model.layers[0].parts] == ["matmul", "softmax", "matmul"]
    else:
        assert kinds(model).count("matmul") == 2


def test_concat_is_written_by_its_producers(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [
            node("Conv", "x w1", "a"),
            node("Relu", "a", "b"),
            node("Conv", "x w2", "c"),
            node("Concat", "b c", "y", axis=1),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": (1, 7, 8, 8)},
        {"w1": random(3, 3, 1, 1), "w2": random(4, 3, 1, 1)},
    )
    assert kinds(model) == ["conv", "conv"]
    assert len(model.buffers) == 2


def test_a_value_with_two_readers_is_kept(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [
            node("Relu", "x", "r"),
            node("ReduceMean", "r", "m", keepdims=1),
            node("Sub", "r m", "y"),
        ],
        {"x": (2, 5)},
        {"y": (2, 5)},
        {},
    )
    assert kinds(model) == ["map", "reduce", "map"]


def test_batch_normalisation_becomes_part_of_the_convolution(tmp_path: Path) -> None:
    vectors = {k: np.abs(random(4)) for k in ("scale", "shift", "mean", "var")}
    model = lowered(
        tmp_path,
        [
            node("Conv", "x w", "c"),
            node("BatchNormalization", "c scale shift mean var", "y"),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": (1, 4, 6, 6)},
        {"w": random(4, 3, 3, 3), **vectors},
    )
    assert kinds(model) == ["conv"]
    assert any(step.op == "scale" for step in model.weights["w"].recipe.steps)


def test_rows_of_an_embedding_are_fetched_not_held(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [node("Gather", "table ids", "e"), node("Relu", "e", "y")],
        {"ids": (1, 5)},
        {"y": (1, 5, 64)},
        {"table": random(1000, 64)},
        integer_inputs=("ids",),
    )
    work = model.layers[0].work
    assert isinstance(work, RowFetch)
    assert work.index == "ids"
    assert model.weights[work.table].device_bytes == 0
    assert model.inputs[0].view is None


def test_an_operator_without_kernel_runs_on_the_host(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [node("Relu", "x", "r"), node("Hardmax", "r", "c"), node("Relu", "c", "y")],
        {"x": (3, 4)},
        {"y": (3, 4)},
        {},
    )
    assert kinds(model) == ["map", "host", "map"]
    assert isinstance(model.layers[1].work, HostCall)


def test_a_large_head_is_split_and_its_parts_are_one_output(tmp_path: Path) -> None:
    """40 MB of head beside small activations: tiles of at most 1/32 of all weights or 1 MiB."""
    model = lowered(
        tmp_path,
        [node("MatMul", "x w", "y")],
        {"x": (1, 1, 512)},
        {"y": (1, 1, 20000)},
        {"w": random(512, 20000)},
    )
    parts = [w for w in model.weights.values() if w.origin == "w"]
    assert len(parts) == len(model.layers) > 10
    assert max(p.device_bytes for p in parts) <= 512 * 20000 * 4 // 32 + 512 * 64 * 16
    assert sum(p.device_bytes for p in parts) == 512 * 20000 * 4
    assert len(model.buffers) == 2


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
def test_no_image_passes_the_limits_of_the_device(tmp_path: Path, storage: Storage) -> None:
    small = replace(CPU, limits=replace(CPU.limits, image_width=256, image_height=64))
    model = lowered(
        tmp_path,
        [node("Conv", "x w", "c"), node("Conv", "c v", "y")],
        {"x": (1, 40, 8, 8)},
        {"y": (1, 24, 4, 4)},
        {"w": random(1200, 40, 3, 3), "v": random(24, 1200, 3, 3)},
        device=small,
        storage=storage,
    )
    images = [w for w in model.weights.values() if w.storage is Storage.IMAGE2D]
    assert bool(images) == (storage is Storage.IMAGE2D)
    assert all(w.width <= 256 and w.height <= 64 for w in images)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("width", [8, 24, 256])
def test_groups_are_shared_out_where_an_image_is_too_narrow(
    operator: str, width: int, tmp_path: Path
) -> None:
    """12 groups of 18 channels: 5 texels each, so 1 group is too wide for 8 texels in 2 folds."""
    small = replace(CPU, limits=replace(CPU.limits, image_width=width, image_height=64))
    per_group = (216, 12) if operator == "Conv" else (144, 18)
    model = lowered(
        tmp_path,
        [node(operator, "x w", "y", group=12)],
        {"x": (1, 144, 8, 8)},
        {"y": (1, 216, 6, 6) if operator == "Conv" else (1, 216, 10, 10)},
        {"w": random(*per_group, 3, 3)},
        device=small,
        storage=Storage.IMAGE2D,
    )
    assert all(w.width <= width and w.height <= 64 for w in model.weights.values())
    assert len(model.layers) == {8: 24, 24: 6, 256: 1}[width]
    assert sum(layer.flops for layer in model.layers) == 2 * 12 * 18 * 9 * 12 * (
        36 if operator == "Conv" else 64
    )


def test_half_precision_halves_textures_and_leaves_vectors(tmp_path: Path) -> None:
    arguments = (
        [node("MatMul", "x w", "p"), node("Add", "p b", "y")],
        {"x": (3, 32)},
        {"y": (3, 64)},
        {"w": random(32, 64), "b": random(64 * 16)[:64]},
    )
    full = lowered(tmp_path, *arguments)
    half = lowered(tmp_path, *arguments, precision=Precision.FP16)
    assert half.weights["w"].device_bytes * 2 == full.weights["w"].device_bytes
    assert half.weights["b"] == full.weights["b"]


def test_launches_divide_evenly(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [node("MatMul", "x w", "p"), node("Softmax", "p", "y")],
        {"x": (5, 33)},
        {"y": (5, 35)},
        {"w": random(33, 35)},
    )
    for layer in model.layers:
        assert isinstance(layer.work, KernelCall)
        pairs = zip(layer.work.global_size, layer.work.local_size, strict=True)
        assert all(whole % part == 0 for whole, part in pairs)


def refused(folder: Path, *arguments, **settings) -> str:
    with pytest.raises(ModelError) as caught:
        lowered(folder, *arguments, **settings)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 3, 8, 8), (6, 4, 3, 3), {}),
        ((1, 3, 8, 8), (6, 3, 3, 3), {"group": 3}),
        ((1, 3, 8, 8), (6, 3, 3, 3), {"kernel_shape": [5, 5]}),
        ((1, 9, 8, 8), (6, 2, 3, 3), {}),
    ],
)
def test_a_weight_that_does_not_fit_its_input_is_refused(x, w, attributes, tmp_path: Path) -> None:
    """ONNX's checker and shape inference let all of these pass."""
    kernel = attributes.get("kernel_shape", w[2:])
    y = (1, w[0], *(a - b + 1 for a, b in zip(x[2:], kernel, strict=True)))
    nodes = [node("Conv", "x w", "y", **attributes)]
    assert "does not fit" in refused(tmp_path, nodes, {"x": x}, {"y": y}, {"w": random(*w)})


def test_shapes_that_do_not_broadcast_name_the_node(tmp_path: Path) -> None:
    nodes = [node("LayerNormalization", "x s", "y")]
    message = refused(tmp_path, nodes, {"x": (2, 8)}, {"y": (2, 8)}, {"s": random(5)})
    assert "LayerNormalization" in message
    assert "does not broadcast" in message


def test_tensors_beyond_the_device_are_refused(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "y")]
    huge = (70_000, 70_000)
    assert "largest object" in refused(tmp_path, nodes, {"x": huge}, {"y": huge}, {})
    roomy = replace(CPU, limits=replace(CPU.limits, max_alloc=2**40))
    message = refused(tmp_path, nodes, {"x": huge}, {"y": huge}, {}, device=roomy)
    assert "32 bits" in message


def test_a_device_without_images_gets_buffers_of_any_size(tmp_path: Path) -> None:
    limits = replace(CPU.limits, image_width=0, image_height=0, images=False)
    model = lowered(
        tmp_path,
        [node("MatMul", "x w", "y")],
        {"x": (1, 3, 512)},
        {"y": (1, 3, 64)},
        {"w": random(512, 64)},
        device=replace(CPU, limits=limits),
    )
    assert [w.storage for w in model.weights.values()] == [Storage.BUFFER]
    assert len(model.layers) == 1


def test_normalisation_behind_a_view_of_a_convolution_is_not_folded(tmp_path: Path) -> None:
    vectors = {k: np.abs(random(6)) for k in ("scale", "shift", "mean", "var")}
    model = lowered(
        tmp_path,
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 1, 3]),
            node("BatchNormalization", "t scale shift mean var", "y"),
        ],
        {"x": (1, 3, 6, 8)},
        {"y": (1, 6, 4, 8)},
        {"w": random(4, 3, 1, 1), **vectors},
    )
    assert not any(step.op == "scale" for step in model.weights["w"].recipe.steps)


def test_a_fusion_can_be_undone_at_a_named_value(tmp_path: Path) -> None:
    """MatMul+Add+GELU+residual: the bias stays with the product, the rest can be cut off."""
    files = {"w": random(32, 32), "b": random(32), **GELU_SCALARS}
    graph = (tmp_path, GELU, {"x": (1, 6, 32)}, {"y": (1, 6, 32)}, files)
    (fused,) = lowered(*graph).layers
    assert [(part.kind, part.value) for part in fused.parts] == [
        ("gemm", "h"),
        ("map", "g"),
        ("map", "y"),
    ]
    assert fused.parts[0].nodes == ("p", "h")
    assert fused.parts[0].flops == 2 * 6 * 32 * 32 + 6 * 32
    # x and w and b; the product's rows alone leave the first part.
    assert fused.parts[0].bytes_read == 4 * (6 * 32 + 32 * 32 + 32)
    assert fused.parts[1].bytes_read == fused.parts[1].bytes_written == 4 * 6 * 32
    for cut, names in (("h", [2, 6]), ("g", [7, 1])):
        model = lowered(*graph, unfused=(cut,))
        assert [len(layer.nodes) for layer in model.layers] == names
        assert model.unfused == (cut,)
        assert model.layers[0].writes == (cut,)
    assert len(lowered(*graph, unfused=("h", "g")).layers) == 3
    with pytest.raises(UsageError, match="no fusion to undo"):
        lowered(*graph, unfused=("nothing",))
