"""Small ONNX models, with inline or external weights, for tests of the whole way."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 64


def small_model(
    folder: Path, *, external: bool = False, name: str = "small", seed: int = 0
) -> Path:
    """x[batch, 64] -> Gemm -> Relu -> Gemm -> Relu -> Gemm -> y; `batch` is symbolic."""
    generator = np.random.default_rng(seed)
    weights = []
    for index in range(3):
        matrix = generator.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8
        weights.append(numpy_helper.from_array(matrix, f"w{index}"))
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Gemm", ["b", "w1"], ["c"], "third"),
        helper.make_node("Relu", ["c"], ["d"], "fourth"),
        helper.make_node("Gemm", ["d", "w2"], ["y"], "fifth"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / f"{name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save_model(
            model,
            path,
            save_as_external_data=True,
            location=f"{name}.onnx.data",
            size_threshold=0,
        )
    else:
        onnx.save_model(model, path)
    return path


def write_chain(path: Path) -> None:
    """Eight matrix products of 256 kB each, in a scope of their own each."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for at in range(8):
        weight = rng.normal(size=(256, 256)).astype(np.float32) / 16
        weights.append(numpy_helper.from_array(weight, f"w{at}"))
        names = [f"x{at}", f"w{at}"]
        nodes.append(helper.make_node("MatMul", names, [f"h{at}"], f"/layers.{at}/matmul"))
        nodes.append(helper.make_node("Relu", [f"h{at}"], [f"x{at + 1}"], f"/layers.{at}/relu"))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 256]) for name in ("x0", "x8")
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
