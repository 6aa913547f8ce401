"""ONNX's own backend node tests through the whole way, on the OpenCL device.

The cases ship in the onnx wheel. Shapes, axes and weights, which real models hold as constants,
are made constants here. A case may pass, pass with help of the host, or be refused with a message;
it may never give a wrong answer.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower import ops as _handlers  # noqa: F401  (registers every handler)
from flashmem_lab.lower.context import HANDLERS
from tests.pipeline import run_model

PARAMETERS_ONLY = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Pad", "Resize", "Upsample", "MatMul"}
)
"""Operators whose later inputs are weights or settings in every real model."""

NOT_COMPARED = {
    "test_bernoulli": "draws random numbers",
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime and torch round the length",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime and torch round the length",
}

FEWEST_PASSED = 700
"""Of the cases of onnx 1.23 whose operators have a kernel; fewer means that one was lost."""


def cases():
    """(name, model, inputs, outputs) of every node test that has an operator with a kernel."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they divide by zero on purpose while they are made
        collected = list(collect_testcases(None))
    for case in collected:
        inputs, outputs = case.data_sets[0]
        names = {node.op_type for node in case.model.graph.node}
        arrays = all(isinstance(a, np.ndarray) for a in (*inputs, *outputs))
        if arrays and names & set(HANDLERS):
            yield case.name, case.model, inputs, outputs


def with_constants(model: onnx.ModelProto, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Turns settings into initializers; returns what stays an input."""
    operators = {node.op_type for node in model.graph.node}
    names = [value.name for value in model.graph.input]
    feeds = dict(zip(names, inputs, strict=False))
    fixed = [
        name
        for name in names[1:]
        if operators & PARAMETERS_ONLY or feeds[name].dtype == np.dtype(np.int64)
    ]
    for name in fixed:
        model.graph.initializer.append(numpy_helper.from_array(feeds.pop(name), name))
    kept = [value for value in model.graph.input if value.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return feeds


def agrees(got: np.ndarray, wanted: np.ndarray) -> bool:
    # bfloat16 and float16 cases round after every operator; ours keep float32 in between.
    loose = {"bfloat16": 2e-2, "float16": 1e-2}.get(wanted.dtype.name, 0.0)
    return got.shape == wanted.shape and np.allclose(
        got.astype(np.float64),
        wanted.astype(np.float64),
        rtol=max(1e-3, loose),
        atol=max(1e-5, loose),
        equal_nan=True,
    )


def test_no_case_gives_a_wrong_answer(
    device_id: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    table: dict[str, list[str]] = defaultdict(list)
    for name, model, inputs, outputs in cases():
        if any(name.startswith(prefix) for prefix in NOT_COMPARED):
            table["not compared"].append(name)
            continue
        path = tmp_path / "case.onnx"
        feeds = with_constants(model, inputs)
        onnx.save(model, path)
        try:
            lowered, result = run_model(path, feeds, device_id, tmp_path / "cache", budget="0%")
        except FlashMemError as error:
            table["refused"].append(f"{name}: {error.message}")
            continue
        names = [value.name for value in model.graph.output]
        pairs = zip(names, outputs, strict=True)
        if not all(agrees(result.outputs[key], wanted) for key, wanted in pairs):
            table["wrong"].append(name)
        elif any(layer.kind == "host" for layer in lowered.layers):
            table["host"].append(name)
        else:
            table["passed"].append(name)
    counts = {verdict: len(names) for verdict, names in table.items()}
    record_property("conformance", counts)
    if folder := os.environ.get("FLASHMEM_LAB_ARTEFACTS"):
        Path(folder, "conformance.json").write_text(json.dumps(table, indent=1))
    assert table["wrong"] == []
    assert counts["passed"] + counts.get("host", 0) >= FEWEST_PASSED, counts
