"""Models of opsets before 11, whose operators say things otherwise, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from flashmem_lab.errors import UnsupportedOperators
from flashmem_lab.graph import open_graph
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model

IMAGE = (1, 3, 9, 8)


def write(folder: Path, opset: int, body: str, ir: int = 4, **weights: np.ndarray) -> Path:
    """A model from x, a small picture, to y; `body` is ONNX's text form."""
    shape = ", ".join(map(str, IMAGE))
    text = f"g (float[{shape}] x) => (float[A, B, C, D] y) {{ {body} }}"
    proto = parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]> {text}')
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    path = folder / "old.onnx"
    onnx.save(proto, path)
    return path


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def agrees(path: Path, runtime: OpenCLRuntime) -> None:
    x = floats(*IMAGE)
    wanted = reference_outputs(path, {"x": x})["y"]
    found = run_model(path, {"x": x}, runtime)[1].outputs["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", range(7, 11))
def test_a_network_of_its_time(opset: int, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """Bounds, pads and dropouts as attributes, and weights large enough to stay in the file."""
    body = """
        padded = Pad <pads = [0, 0, 1, 2, 0, 0, 1, 2], mode = "reflect"> (x)
        a = Conv <kernel_shape = [3, 3]> (padded, w)
        b = BatchNormalization (a, scale, bias, mean, variance)
        c = Clip <min = 0.0, max = 1.5> (b)
        d = Dropout (c)
        y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (d)
    """
    vectors = {name: floats(40) for name in ("scale", "bias", "mean")}
    path = write(
        tmp_path, opset, body, w=floats(40, 3, 3, 3), variance=np.abs(floats(40)), **vectors
    )
    assert "w" in open_graph(path).weights, "a reference into the file, as in newer models"
    agrees(path, runtime)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1.5, 3)])
def test_resizes_keep_where_they_sampled(
    mode: str, scales: tuple[float, ...], runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    """Before opset 11 from the corner of a pixel; since then from its centre."""
    factors = np.array(scales, np.float32)
    for opset, op in ((9, "Upsample"), (10, "Resize")):
        agrees(write(tmp_path, opset, f'y = {op} <mode = "{mode}"> (x, s)', s=factors), runtime)


def test_weights_need_not_be_inputs_in_an_old_file(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    """The IR of version 3 asks for that, and not every exporter did it."""
    agrees(write(tmp_path, 8, "y = Mul (x, k)", ir=3, k=floats(3, 1, 1)), runtime)


def test_operators_that_never_were_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperators, match=r"ai\.onnx::Nope \(y\)"):
        open_graph(write(tmp_path, 9, "y = Nope (x)"))
