"""ONNX's own backend node tests, and what became of each on a device.

The cases ship in the onnx wheel. Shapes, axes and weights, which real models hold as constants,
are made constants here. A case passes, passes with help of the host, or is refused with a message;
it may never give a wrong answer.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import defs, numpy_helper

from flashmem_lab.errors import FlashMemError
from flashmem_lab.graph import open_graph
from flashmem_lab.graph.expand import COMPOSED
from flashmem_lab.lower import lower
from flashmem_lab.lower import ops as _handlers  # noqa: F401  (registers every handler)
from flashmem_lab.lower.context import HANDLERS
from flashmem_lab.plan import make_plan
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.units import Budget

HOSTED = frozenset(
    {
        "ArgMax", "ArgMin", "GRU", "GatherElements", "If", "LSTM", "Loop", "NonZero", "RNN", "TopK",
    }
)  # fmt: skip
"""Operators without a kernel whose cases are run too: models have them, and the host serves."""

PARAMETERS_ONLY = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Pad", "Resize", "Upsample", "MatMul"}
)
"""Operators whose later inputs are weights or settings in every real model."""

NOT_COMPARED = {
    "test_bernoulli": "draws random numbers",
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime and torch round the length",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime and torch round the length",
}
"""Beginnings of names, and why their expected outputs say nothing."""

OLDEST = 11  # opset that can be opened; an operator may not have changed since an older one


@dataclass(frozen=True)
class Verdict:
    """What became of one case.

    Attributes:
        case: its name.
        operator: that it was made for; an expanded case counts for the operator it expands.
        result: passed, host, refused or wrong.
        why: the message, for refused.
    """

    case: str
    operator: str
    result: str
    why: str = ""


def run_cases(runtime: OpenCLRuntime, folder: Path) -> list[Verdict]:
    """Runs every case on the device; `folder` takes models and packed weights."""
    return [
        _verdict(case.name, operator, _recent(case.model), *case.data_sets[0], runtime, folder)
        for operator, case in _cases()
    ]


def _cases() -> Iterator[tuple[str, object]]:
    """(operator, case) of every case with an operator that is expected to run."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they divide by zero on purpose while they are made
        collected = {case.name: case for case in collect_testcases(None)}
    expected = {*HANDLERS, *COMPOSED, *HOSTED}
    for name, case in collected.items():
        arrays = all(isinstance(a, np.ndarray) for data in case.data_sets[0] for a in data)
        names = {node.op_type for node in case.model.graph.node}
        skipped = any(name.startswith(prefix) for prefix in NOT_COMPARED)
        if not arrays or not names & expected or skipped:
            continue
        made_for = collected.get(re.sub(r"_expanded.*", "", name), case).model.graph.node
        yield (made_for[0].op_type if len(made_for) == 1 else "several"), case


def _recent(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model under an opset that can be opened, where its operators are the same there."""
    (default,) = (item for item in model.opset_import if item.domain == "")
    if default.version < OLDEST and all(
        defs.get_schema(node.op_type, int(default.version), "").since_version
        == defs.get_schema(node.op_type, OLDEST, "").since_version
        for node in model.graph.node
    ):
        default.version = OLDEST
    return model


def _with_constants(model: onnx.ModelProto, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Turns settings into initializers; returns what stays an input."""
    operators = {node.op_type for node in model.graph.node}
    names = [value.name for value in model.graph.input]
    feeds = dict(zip(names, inputs, strict=False))
    fixed = [
        name
        for name in names[1:]
        if operators & PARAMETERS_ONLY or feeds[name].dtype == np.dtype(np.int64)
    ]
    # An input without elements holds nothing that could vary from run to run.
    fixed += [name for name, array in feeds.items() if not array.size and name not in fixed]
    for name in fixed:
        model.graph.initializer.append(numpy_helper.from_array(feeds.pop(name), name))
    kept = [value for value in model.graph.input if value.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return feeds


def _verdict(
    name: str,
    operator: str,
    model: onnx.ModelProto,
    inputs: list[np.ndarray],
    outputs: list[np.ndarray],
    runtime: OpenCLRuntime,
    folder: Path,
) -> Verdict:
    feeds = _with_constants(model, inputs)
    path = folder / "case.onnx"
    onnx.save(model, path)
    try:
        graph = open_graph(path, shapes={key: array.shape for key, array in feeds.items()})
        lowered = lower(graph, runtime.spec)
        plan = make_plan(lowered, runtime.spec, budget=Budget.parse("0%"))
        packed = pack_weights(lowered, folder / "cache")
        found = runtime.run(build_program(plan, lowered, packed), packed.path, feeds).outputs
    except FlashMemError as error:
        return Verdict(name, operator, "refused", error.message.replace(str(path), "the model"))
    names = [value.name for value in model.graph.output]
    if not all(_agrees(found[key], wanted) for key, wanted in zip(names, outputs, strict=True)):
        return Verdict(name, operator, "wrong")
    hosted = any(layer.kind == "host" for layer in lowered.layers)
    return Verdict(name, operator, "host" if hosted else "passed")


def _agrees(got: np.ndarray, wanted: np.ndarray) -> bool:
    # bfloat16 and float16 cases round after every operator; ours keep float32 in between.
    loose = {"bfloat16": 2e-2, "float16": 1e-2}.get(wanted.dtype.name, 0.0)
    return got.shape == wanted.shape and np.allclose(
        got.astype(np.float64),
        wanted.astype(np.float64),
        rtol=max(1e-3, loose),
        atol=max(1e-5, loose),
        equal_nan=True,
    )
