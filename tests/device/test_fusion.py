"""Fused operations on the device against onnxruntime: attention, index maps, undone fusions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flashmem_lab.device.spec import WITH_FUNCTION
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.lower import LoweredModel
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model, save_nodes
from tests.windows import WINDOWS, partition, there_and_back

RNG = np.random.default_rng(11)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def agree(
    folder: Path,
    runtime: OpenCLRuntime,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    *,
    unfused: tuple[str, ...] = (),
) -> LoweredModel:
    """Runs the nodes on the device; every output, NaN included, is what onnxruntime gives."""
    path = save_nodes(folder, nodes, inputs, weights)
    model, result = run_model(path, inputs, runtime, unfused=unfused)
    got = result.outputs["y"]
    wanted = reference_outputs(path, inputs)["y"]
    assert got.shape == wanted.shape
    scale = max(1e-3, float(np.abs(np.nan_to_num(wanted)).max()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * scale)
    return model


def kinds(model: LoweredModel) -> list[str]:
    return [layer.kind for layer in model.layers]


def attention(*, mask: str = "", guard: bool = False) -> list[onnx.NodeProto]:
    """Queries q, keys k and values v with heads in rows, as exporters decompose it."""
    nodes = []
    for name in "qkv":
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            node("Reshape", f"{name} split", f"{name}_split"),
            node("Transpose", f"{name}_split", f"{name}_heads", perm=perm),
        ]
    nodes += [node("Mul", "q_heads scale", "scaled"), node("MatMul", "scaled k_heads", "scores")]
    scores = "scores"
    if mask:
        nodes.append(node(mask, "scores mask" if mask == "Add" else "mask scores low", "masked"))
        scores = "masked"
    nodes.append(node("Softmax", scores, "p", axis=-1))
    if guard:
        nodes += [node("IsNaN", "p", "bad"), node("Where", "bad zero p", "good")]
    nodes += [
        node("MatMul", "good v_heads" if guard else "p v_heads", "o"),
        node("Transpose", "o", "joined", perm=[0, 2, 1, 3]),
        node("Reshape", "joined rows", "y"),
    ]
    return nodes


def values(batch: int, heads: int, m: int, n: int, head: int) -> tuple[dict, dict]:
    inputs = {
        "q": random(batch, m, heads * head),
        "k": random(batch, n, heads * head),
        "v": random(batch, n, heads * head),
    }
    weights = {
        "split": np.array([batch, -1, heads, head]),
        "rows": np.array([batch, m, heads * head]),
        "scale": np.float32(head**-0.5),
        "zero": np.float32(0),
        "low": np.float32(-3e38),
    }
    return inputs, {name: np.asarray(w) for name, w in weights.items()}


SHAPES = {  # batch, heads, queries, keys, head
    "square": (1, 3, 33, 33, 32),
    "one query": (2, 2, 1, 19, 64),
    "one key": (1, 2, 5, 1, 8),
    "more keys than a block": (1, 2, 17, 131, 40),
    "long heads": (1, 1, 9, 10, 160),
    "odd heads": (2, 3, 7, 13, 33),
    "windows": (6, 2, 15, 15, 72),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_attention(shape: str, tmp_path: Path, runtime: OpenCLRuntime) -> None:
    inputs, weights = values(*SHAPES[shape])
    model = agree(tmp_path, runtime, attention(), inputs, weights)
    assert kinds(model) == ["attention"]
    assert max(model.buffers.values()) == max(4 * a.size for a in inputs.values())


@pytest.mark.parametrize("guard", [False, True], ids=["plain", "guarded"])
@pytest.mark.parametrize("mask", ["Add", "Where"])
def test_masked_attention(mask: str, guard: bool, tmp_path: Path, runtime: OpenCLRuntime) -> None:
    """A third of the keys is masked, the first row whole: NaN, or 0 where that is guarded."""
    inputs, weights = values(2, 3, 21, 70, 24)
    seen = RNG.random((21, 70)) > 0.3
    seen[0] = False
    seen[1, :65] = False  # nothing to see in the first block of keys
    seen[1, 65:] = True
    inputs["mask"] = seen if mask == "Where" else np.where(seen, 0, -np.inf).astype(np.float32)
    nodes = attention(mask=mask, guard=guard)
    if mask == "Where":
        weights["low"] = np.asarray(np.float32(-np.inf))
    model = agree(tmp_path, runtime, nodes, inputs, weights)
    assert kinds(model) == ["attention"]


def test_heads_that_share_keys(tmp_path: Path, runtime: OpenCLRuntime) -> None:
    """Two groups of three query heads: keys and values are broadcast, never repeated."""
    nodes = [
        node("Unsqueeze", "k two", "k5"),
        node("Expand", "k5 groups", "k6"),
        node("Reshape", "k6 heads", "k7"),
        node("Transpose", "k7", "k8", perm=[0, 1, 3, 2]),
        node("Unsqueeze", "v two", "v5"),
        node("Expand", "v5 groups", "v6"),
        node("Reshape", "v6 heads", "v7"),
        node("MatMul", "q k8", "s"),
        node("Softmax", "s", "p", axis=-1),
        node("MatMul", "p v7", "y"),
    ]
    inputs = {"q": random(1, 6, 9, 16), "k": random(1, 2, 11, 16), "v": random(1, 2, 11, 16)}
    weights = {
        "two": np.array([2]),
        "groups": np.array([1, 2, 3, 11, 16]),
        "heads": np.array([1, 6, 11, 16]),
    }
    model = agree(tmp_path, runtime, nodes, inputs, weights)
    assert kinds(model) == ["attention"]


SHARED = {  # what is read twice, the rest of the model, and the operations that are left
    "query and key": (
        [node("Transpose", "scaled", "k", perm=[0, 2, 1]), node("MatMul", "scaled k", "s"),
         node("Softmax", "s", "p", axis=-1), node("MatMul", "p v", "y")],
        ["map", "attention"],
    ),
    "query and value": (
        [node("MatMul", "scaled kt", "s"), node("Softmax", "s", "p", axis=-1),
         node("MatMul", "p scaled", "y")],
        ["map", "attention"],
    ),
    "softmax and value": (
        [node("MatMul", "q kt", "s"), node("Softmax", "s", "p", axis=-1),
         node("MatMul", "p p", "y")],
        ["matmul", "softmax", "matmul"],
    ),
    "softmax and what is added": (
        [node("MatMul", "q kt", "s"), node("Softmax", "s", "p", axis=-1),
         node("MatMul", "p w", "o"), node("Add", "o p", "y")],
        ["matmul", "softmax", "matmul"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shared", SHARED)
def test_what_attention_reads_twice_is_still_computed(
    shared: str, tmp_path: Path, runtime: OpenCLRuntime
) -> None:
    """One operation reads a tensor in two places: it cannot be pulled in for one of them."""
    nodes, left = SHARED[shared]
    if any("scaled" in item.input for item in nodes):
        nodes = [node("Mul", "q scale", "scaled"), *nodes]
    shapes = {"q": (2, 6, 8), "kt": (2, 8, 6), "v": (2, 6, 8), "w": (2, 6, 6)}
    read = {name for item in nodes for name in item.input}
    inputs = {name: random(*shape) for name, shape in shapes.items() if name in read}
    weights = {"scale": np.asarray(np.float32(0.5))}
    assert kinds(agree(tmp_path, runtime, nodes, inputs, weights)) == left


@pytest.mark.parametrize(
    ("cut", "layers"),
    [
        ((), ["attention"]),
        (("scores",), ["map", "matmul", "map", "softmax", "matmul"]),
        (("p",), ["map", "matmul", "softmax", "matmul"]),
    ],
    ids=["whole", "scores", "softmax"],
)
def test_attention_can_be_undone(
    cut: tuple[str, ...],
    layers: list[str],
    tmp_path: Path,
    runtime: OpenCLRuntime,
) -> None:
    inputs, weights = values(1, 2, 9, 14, 16)
    inputs["mask"] = random(9, 14)
    nodes = attention(mask="Add")
    model = agree(tmp_path, runtime, nodes, inputs, weights, unfused=cut)
    assert kinds(model) == layers
    if not cut:
        assert {"scores", "p"} & {part.value for part in model.layers[0].parts}


def test_windows_there_and_back(tmp_path: Path, runtime: OpenCLRuntime) -> None:
    """Partition into windows, a product, a residual in the plane's order: written by index maps."""
    model = agree(
        tmp_path,
        runtime,
        there_and_back(),
        {"x": random(1, 8, 15, 8)},
        {"scale": random(8), "m": random(8, 8), **WINDOWS},
    )
    assert kinds(model) == ["normalise", "gemm"]


@pytest.mark.parametrize("reader", ["MatMul", "LayerNormalization", "Softmax", "ReduceMean"])
def test_windows_read_through_an_index_map(
    reader: str, tmp_path: Path, runtime: OpenCLRuntime
) -> None:
    last = {
        "MatMul": node("MatMul", "w m", "y"),
        "LayerNormalization": node("LayerNormalization", "w scale", "y", axis=1),
        "Softmax": node("Softmax", "w", "y", axis=1),
        "ReduceMean": node("ReduceMean", "w axis", "y"),
    }[reader]
    model = agree(
        tmp_path,
        runtime,
        [*partition("x", "w"), last],
        {"x": random(1, 8, 15, 8)},
        {"m": random(8, 9), "scale": random(10, 8), "axis": np.array([1]), **WINDOWS},
    )
    assert len(model.layers) == 1


def test_rows_of_several_channels(tmp_path: Path, runtime: OpenCLRuntime) -> None:
    """GroupNorm and SiLU as exporters write them: one kernel, whose rows hold three channels."""
    model = agree(
        tmp_path,
        runtime,
        [
            node("Reshape", "x groups", "g"),
            node("InstanceNormalization", "g ones zeros", "i"),
            node("Reshape", "i planes", "p"),
            node("Mul", "p scale", "m"),
            node("Add", "m bias", "a"),
            node("Sigmoid", "a", "s"),
            node("Mul", "a s", "y"),
        ],
        {"x": random(2, 12, 5, 7)},
        {
            "groups": np.array([2, 4, -1]),
            "planes": np.array([2, 12, 5, 7]),
            "ones": np.ones(4, np.float32),
            "zeros": np.zeros(4, np.float32),
            "scale": random(12, 1, 1),
            "bias": random(12, 1, 1),
        },
    )
    assert kinds(model) == ["normalise" + WITH_FUNCTION]


@pytest.mark.parametrize("outer", ["whole", "product"])
def test_concats_of_concats(outer: str, tmp_path: Path, runtime: OpenCLRuntime) -> None:
    """The pieces of the inner one are worked on alone, or stay where a product reads them."""
    index = {f"i{v}": np.array([v]) for v in (0, 1, 2, 4)}
    agree(
        tmp_path,
        runtime,
        [
            node("Sin", "x", "s"),
            node("Concat", "s x", "b", axis=1),
            node("Concat", "b x b", "d", axis=1),
            node("Slice", "d i0 i4 i1 i1", "left"),
            node("MatMul", "left w", "y")
            if outer == "product"
            else node("Mul", "d positions", "y"),
        ],
        {"x": random(3, 2)},
        {"w": random(4, 5), "positions": random(3, 10), **index},
    )


@pytest.mark.parametrize("groups", [3, 6])
def test_convolutions_in_groups_that_are_split(
    groups: int, tmp_path: Path, runtime: OpenCLRuntime
) -> None:
    """3.4 MB of weights beside small activations: tiles of about 1 MiB, by groups and within."""
    channels = 96 * groups
    model = agree(
        tmp_path,
        runtime,
        [node("Conv", "x w b", "c", group=groups), node("Relu", "c", "y")],
        {"x": random(1, 2 * channels, 4, 4)},
        {"w": random(channels, 192, 3, 3) / 40, "b": random(channels)},
    )
    assert len(model.layers) >= groups
    assert {layer.kind for layer in model.layers} == {"conv"}


def test_an_undone_fusion_computes_the_same(tmp_path: Path, runtime: OpenCLRuntime) -> None:
    nodes = [
        node("MatMul", "x w", "p"),
        node("Add", "p b", "h"),
        node("Gelu", "h", "g"),
        node("Add", "g x", "y"),
    ]
    inputs, weights = {"x": random(5, 24)}, {"w": random(24, 24), "b": random(24)}
    for cut, layers in (((), 1), (("h",), 2), (("h", "g"), 3)):
        model = agree(tmp_path, runtime, nodes, inputs, weights, unfused=cut)
        assert len(model.layers) == layers
