"""Small models of every kind that an agent has to run, planned for this machine's device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab.device import DeviceSpec
from flashmem_lab.device.spec import Transport
from flashmem_lab.graph import open_graph
from flashmem_lab.lower import Precision, lower
from flashmem_lab.plan import make_plan
from flashmem_lab.program import Packed, build_program, pack_weights
from flashmem_lab.program.program import Program
from flashmem_lab.units import Budget
from tests.unit.small_models import write_chain

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Planned:
    """A program, its weights, and inputs for it."""

    model: Path
    program: Program
    packed: Packed
    inputs: Arrays


def plan_model(
    path: Path,
    inputs: Arrays,
    device: DeviceSpec,
    *,
    budget: str = "30%",
    transport: Transport = Transport.MAP,
    precision: Precision = Precision.FP32,
) -> Planned:
    """Opens, lowers, plans, packs (beside the file) and builds."""
    device = replace(device, transport=transport)
    graph = open_graph(path, shapes={name: array.shape for name, array in inputs.items()})
    lowered = lower(graph, device, precision=precision)
    plan = make_plan(lowered, device, budget=Budget.parse(budget))
    packed = pack_weights(lowered, path.parent / "cache")
    return Planned(path, build_program(plan, lowered, packed), packed, inputs)


def matrices(folder: Path) -> tuple[Path, Arrays]:
    """Eight products, 2 MB of weights."""
    path = folder / "matrices.onnx"
    write_chain(path)
    return path, {"x0": np.random.default_rng(1).standard_normal((8, 256)).astype(np.float32)}


def convolutions(folder: Path) -> tuple[Path, Arrays]:
    """Convolutions with a transposed, sliced output: views that are not tight."""
    rng = np.random.default_rng(2)
    weights = {
        "w0": rng.standard_normal((32, 3, 3, 3)) / 5,
        "w1": rng.standard_normal((64, 32, 3, 3)) / 17,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    x = rng.standard_normal((1, 3, 20, 24)).astype(np.float32)
    return _save(folder / "convolutions.onnx", nodes, {"x": x}, weights)


def sentence(folder: Path) -> tuple[Path, Arrays]:
    """Rows of a table, a product, and a node that only the host can compute."""
    rng = np.random.default_rng(3)
    weights = {
        "table": rng.standard_normal((700, 48)),
        "w": rng.standard_normal((48, 64)) / 7,
        "axis": np.array(1, np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("CumSum", ["rows", "axis"], ["sums"]),
        helper.make_node("MatMul", ["sums", "w"], ["y"]),
    ]
    ids = np.array([[3, 699, 0, 17, 17]], np.int64)
    return _save(folder / "sentence.onnx", nodes, {"ids": ids}, weights)


MODELS: Mapping[str, Callable[[Path], tuple[Path, Arrays]]] = {
    "matrices": matrices,
    "convolutions": convolutions,
    "sentence": sentence,
}


def _save(
    path: Path, nodes: list[onnx.NodeProto], inputs: Arrays, weights: Arrays
) -> tuple[Path, Arrays]:
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(w if w.dtype == np.int64 else w.astype(np.float32), name)
            for name, w in weights.items()
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path, inputs
