"""Nodes run one by one on the host give what the whole model gives."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab.errors import InputError, ModelError
from flashmem_lab.graph import Graph, open_graph, read_weight
from flashmem_lab.graph import evaluate as module
from flashmem_lab.graph.evaluate import evaluate, reference_outputs, single_node_model

RNG = np.random.default_rng(3)


@pytest.fixture(params=["onnxruntime", "reference"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to evaluate."""
    if request.param == "reference":
        monkeypatch.setattr(module, "_has_onnxruntime", lambda: False)
    module._prepared.cache_clear()
    return str(request.param)


def conv_model(tmp_path: Path) -> Path:
    """Conv, pooling with an unread output, Resize with an omitted input, Split, LayerNorm."""
    weights = {
        "k": RNG.standard_normal((8, 3, 7, 7)).astype(np.float32),
        "g": RNG.standard_normal(600).astype(np.float32),
        "w": RNG.standard_normal((4 * 32 * 32, 600)).astype(np.float32) / 64,
    }
    small = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "flat": np.array([1, -1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[3, 3, 3, 3]),
        helper.make_node("MaxPool", ["c"], ["p", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["p", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Split", ["r"], ["s", "t"], axis=1, num_outputs=2),
        helper.make_node("Reshape", ["t", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("LayerNormalization", ["m", "g"], ["y", "", ""], epsilon=1e-5),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", "H"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in {**weights, **small}.items()],
    )
    path = tmp_path / "conv.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


def run_nodes(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    values = dict(inputs)
    for node in graph.nodes:
        names = [name for name in node.inputs if name and name not in graph.constants]
        values |= evaluate(
            single_node_model(node, graph),
            {n: values[n] if n in values else read_weight(graph.weights[n]) for n in names},
        )
        for name in filter(None, node.outputs):
            assert graph.types[name].shape == values[name].shape
            assert graph.types[name].dtype == values[name].dtype.name
    return values


def test_nodes_in_turn_equal_the_model(tmp_path: Path, engine: str) -> None:
    path = conv_model(tmp_path)
    graph = open_graph(path, dims={"H": 32})
    pool = next(node for node in graph.nodes if node.op_type == "MaxPool")
    assert pool.outputs == ("p",)  # nothing reads the indices
    x = RNG.standard_normal((1, 3, 32, 32)).astype(np.float32)
    done = run_nodes(graph, {"x": x})["y"]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(done, session.run(None, {"x": x})[0], rtol=1e-3, atol=1e-4)


def test_reference_outputs_are_named(tmp_path: Path) -> None:
    x = RNG.standard_normal((1, 3, 32, 32)).astype(np.float32)
    outputs = reference_outputs(conv_model(tmp_path), {"x": x})
    assert outputs["y"].shape == (1, 600)


def test_reference_keeps_activations_exact(tmp_path: Path) -> None:
    weights = RNG.integers(-128, 128, (64, 48)).astype(np.int8)
    x = RNG.standard_normal((4, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]),
            helper.make_node("MatMul", ["x", "wf"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 48])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array(0.02, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "z"),
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    got = reference_outputs(path, {"x": x})["y"]
    np.testing.assert_allclose(got, x @ (weights * np.float32(0.02)), rtol=1e-4, atol=1e-4)


def test_reference_refuses_wrong_inputs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot run"):
        reference_outputs(conv_model(tmp_path), {"x": np.zeros((1, 3, 32), np.float32)})
    with pytest.raises(ModelError, match="cannot load"):
        reference_outputs(tmp_path / "none.onnx", {})


def test_reference_without_onnxruntime_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_has_onnxruntime", lambda: False)
    with pytest.raises(ModelError) as caught:
        reference_outputs(conv_model(tmp_path), {})
    assert caught.value.hint == "pip install onnxruntime"


def one_node(tmp_path: Path, node: onnx.NodeProto, kind: int, shape: list[int]) -> Graph:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    path = tmp_path / "one.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return open_graph(path)


def test_bfloat16_runs_where_onnxruntime_cannot(tmp_path: Path, engine: str) -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    graph = one_node(tmp_path, node, TensorProto.BFLOAT16, [4])
    x = np.array([1, -2, 3, 0.5], ml_dtypes.bfloat16)
    result = evaluate(single_node_model(graph.nodes[0], graph), {"x": x})["y"]
    np.testing.assert_array_equal(result.astype(np.float32), [-1, 2, -3, -0.5])


def test_a_failing_node_is_named(tmp_path: Path, engine: str) -> None:
    graph = one_node(tmp_path, helper.make_node("Neg", ["x"], ["y"]), TensorProto.FLOAT, [4])
    with pytest.raises(ModelError, match=r"\(Neg\) failed"):
        evaluate(single_node_model(graph.nodes[0], graph), {"z": np.zeros(4, np.float32)})


def test_the_same_node_makes_the_same_bytes(tmp_path: Path) -> None:
    graph = open_graph(conv_model(tmp_path), dims={"H": 32})
    for node in graph.nodes:
        assert single_node_model(node, graph) == single_node_model(node, graph)
