"""Runs ONNX on the host: single nodes that no kernel covers, and whole models as the reference."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from flashmem_lab.errors import InputError, ModelError
from flashmem_lab.graph.inference import IR_VERSION, value_info
from flashmem_lab.graph.model import Graph, Node

_Run = Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]

_THREADS = 2  # the check must not take the machine from whoever else works on it


def single_node_model(node: Node, graph: Graph) -> bytes:
    """A model of one node, to be run by `evaluate`.

    Args:
        node: a node of `graph`.
        graph: gives types and constants.

    Returns:
        Serialised ModelProto. Constants are inside it; activations and weights are its inputs,
        under their names in the graph.
    """
    names = [name for name in dict.fromkeys(node.inputs) if name]
    attributes = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, node.name)
    # An empty list says nothing of its kind, so it is left to the operator's default.
    proto.attribute.extend(
        helper.make_attribute(key, value) for key, value in attributes.items() if value != ()
    )
    body = helper.make_graph(
        [proto],
        "node",
        [value_info(name, graph.types[name]) for name in names if name not in graph.constants],
        [value_info(name, graph.types[name]) for name in node.outputs if name],
        [
            numpy_helper.from_array(graph.constants[name], name)
            for name in names
            if name in graph.constants
        ],
    )
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=IR_VERSION
    )
    return bytes(model.SerializeToString(deterministic=True))


def evaluate(model: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a small model on the host, with onnxruntime where it can, else ONNX's reference.

    Args:
        model: what `single_node_model` made.
        inputs: arrays by name; cast to the declared types (a device holds float16 as float32).

    Returns:
        Outputs by name.

    Raises:
        ModelError: neither of the two can run it; names the operator.
    """
    outputs, types, run, portable = _prepared(model)
    arrays = {
        name: array.astype(types.get(name, array.dtype), copy=False)
        for name, array in inputs.items()
    }
    # onnxruntime takes NumPy's own types only; the reference takes bfloat16 and float8 too.
    native = all(array.dtype.isbuiltin < 2 for array in arrays.values())
    try:
        results = (run if native else portable)(arrays)
    except Exception as error:  # both raise classes of their own, NumPy's among them
        raise ModelError(f"{_operator(model)} failed on the host: {_line(error)}") from error
    return {name: np.asarray(result) for name, result in zip(outputs, results, strict=True)}


def reference_outputs(
    path: str | Path, inputs: Mapping[str, np.ndarray], *, threads: int = _THREADS
) -> dict[str, np.ndarray]:
    """What onnxruntime's CPU provider computes from the model file itself.

    Args:
        path: the .onnx file.
        inputs: arrays by input name.
        threads: of one operator.

    Returns:
        Outputs by name.

    Raises:
        ModelError: onnxruntime is not installed, or cannot load the model.
        InputError: onnxruntime refuses the inputs.
    """
    if not _has_onnxruntime():
        raise ModelError(
            "checking against a reference needs onnxruntime, which is not installed",
            hint="pip install onnxruntime",
        )
    try:
        session = _session(str(path), threads, exact=True)
    except Exception as error:  # onnxruntime's classes share no public base
        raise ModelError(
            f"onnxruntime cannot load {path}: {_line(error)}",
            hint="what it cannot run cannot be checked against it: leave --check out",
        ) from error
    names = [output.name for output in session.get_outputs()]
    try:
        results = session.run(names, dict(inputs))
    except Exception as error:
        raise InputError(
            f"onnxruntime cannot run {path}: {_line(error)}",
            hint="give inputs that fit the model with --input; those not given are drawn",
        ) from error
    return dict(zip(names, results, strict=True))


def _has_onnxruntime() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


def _session(model: str | bytes, threads: int, *, exact: bool = False) -> Any:
    """An onnxruntime session on the CPU that prints nothing.

    Args:
        model: a path or a serialised model.
        threads: of one operator.
        exact: leave out what changes values: the extended optimisations turn DequantizeLinear
            and MatMul into an integer product, which rounds the activations to eight bits.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: errors come back as exceptions
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=256)
def _prepared(model: bytes) -> tuple[list[str], dict[str, np.dtype], _Run, _Run]:
    """Output names, input types, and two ways to run: the fast one, the one for every type."""
    proto = onnx.load_model_from_string(model)
    names = [output.name for output in proto.graph.output]
    types = {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in proto.graph.input
    }
    reference: list[ReferenceEvaluator] = []

    def portable(inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        if not reference:
            reference.append(ReferenceEvaluator(proto))
        return list(reference[0].run(names, inputs))

    if not _has_onnxruntime():
        return names, types, portable, portable
    try:
        session = _session(model, 1)  # a pool of threads a node would cost 3 ms each to start
    except Exception:
        # onnxruntime has no kernel for some operators and types; the reference has.
        return names, types, portable, portable

    def fast(inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        return list(session.run(names, inputs))

    return names, types, fast, portable


def _operator(model: bytes) -> str:
    node = onnx.load_model_from_string(model).graph.node[0]
    return f"node {node.name!r} ({node.op_type})"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:400] or type(error).__name__
