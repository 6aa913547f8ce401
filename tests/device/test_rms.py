"""Root mean square normalisation in every form that exporters write is one kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model, save_nodes

X = np.random.default_rng(4).standard_normal((2, 5, 40)).astype(np.float32)
WEIGHTS = {
    "two": np.array(2, np.float32),
    "half": np.array(0.5, np.float32),
    "minus_half": np.array(-0.5, np.float32),
    "one": np.array(1, np.float32),
    "epsilon": np.array([1e-3], np.float32),
    "last": np.array([-1]),
    "scale": np.linspace(0.5, 2, 40, dtype=np.float32),
}
SQUARES = {"pow": ("Pow", "x two squares"), "mul": ("Mul", "x x squares")}
ENDS = {
    "reciprocal": [
        ("Sqrt", "total root"),
        ("Reciprocal", "root inverse"),
        ("Mul", "x inverse unit"),
    ],
    "one over": [("Sqrt", "total root"), ("Div", "one root inverse"), ("Mul", "inverse x unit")],
    "division": [("Sqrt", "total root"), ("Div", "x root unit")],
    "half power": [("Pow", "total half root"), ("Div", "x root unit")],
    "negative power": [("Pow", "total minus_half inverse"), ("Mul", "x inverse unit")],
}


def nodes(*steps: tuple[str, str]) -> list[onnx.NodeProto]:
    made = []
    for operator, names in steps:
        *inputs, output = names.split()
        made.append(helper.make_node(operator, inputs, [output], name=output))
    return made


def run(
    folder: Path, runtime: OpenCLRuntime, *steps: tuple[str, str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Kinds of the layers, what they computed, and what onnxruntime did."""
    path = save_nodes(folder, nodes(*steps), {"x": X}, WEIGHTS)
    model, result = run_model(path, {"x": X}, runtime)
    wanted = reference_outputs(path, {"x": X})["y"]
    return [layer.kind for layer in model.layers], result.outputs["y"], wanted


MIDDLE = [("ReduceMean", "squares last mean"), ("Add", "epsilon mean total")]
LAST = ("Mul", "scale unit y")


@pytest.mark.parametrize("squares", SQUARES)
@pytest.mark.parametrize("end", ENDS)
def test_every_form_is_one_kernel(
    runtime: OpenCLRuntime, tmp_path: Path, squares: str, end: str
) -> None:
    kinds, got, wanted = run(tmp_path, runtime, SQUARES[squares], *MIDDLE, *ENDS[end], LAST)
    assert kinds == ["normalise"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "steps",
    [
        # The squares of another value, no squares, and a sum that is read again.
        [("Add", "x one other"), ("Mul", "other other squares"), *MIDDLE, *ENDS["division"], LAST],
        [("Mul", "x one squares"), *MIDDLE, *ENDS["division"], LAST],
        [SQUARES["mul"], *MIDDLE, *ENDS["division"], ("Mul", "total unit y")],
    ],
)
def test_what_only_looks_like_it_stays_as_it_is(
    runtime: OpenCLRuntime, tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    kinds, got, wanted = run(tmp_path, runtime, *steps)
    assert "normalise" not in kinds
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
