"""Small graphs as exporters write them, against onnxruntime (from tests/data/export_forms.py)."""

from __future__ import annotations

import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from flashmem_lab.graph import open_graph
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model

ARCHIVE = Path(__file__).parents[1] / "data" / "exporters.tar.xz"
BATCH = 3  # of an open first dimension; the exporters saw 1 or 2

ON_THE_HOST = {
    "ArgMax", "ArgMin", "TopK", "GRU", "LSTM", "RNN", "GatherElements", "GatherND",
    "GridSample", "NonZero", "ScatterElements", "ScatterND",
}  # fmt: skip
"""Operators that may run on the host: what they read or write depends on data, or on its past."""

NOT_BY_ONNXRUNTIME = {"sdpa_boolean.dynamo.23.onnx", "sdpa_float.dynamo.23.onnx"}
"""onnxruntime 1.32 does not broadcast an Attention's mask over queries; ONNX's reference does."""


def graphs() -> dict[str, dict[str, bytes]]:
    """Form -> file name -> serialised model."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(ARCHIVE) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.split(".")[0]][entry.name] = file.read()
    return found


FORMS = graphs()


def draw(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Inputs as tests/data/forms.py promises to take them."""
    rng = np.random.default_rng(1)
    inputs = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value or BATCH for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            inputs[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            inputs[value.name] = rng.integers(0, 2 if dtype.kind == "b" else 4, shape).astype(dtype)
    return inputs


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_form(form: str, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    for name, data in FORMS[form].items():
        path = tmp_path / name
        path.write_bytes(data)
        proto = onnx.load_model_from_string(data)
        inputs = draw(proto)
        if name in NOT_BY_ONNXRUNTIME:
            results = ReferenceEvaluator(proto).run(None, dict(inputs))
            wanted = dict(zip((value.name for value in proto.graph.output), results, strict=True))
        else:
            wanted = reference_outputs(path, inputs)
        model, result = run_model(path, inputs, runtime)
        graph = open_graph(path, shapes={key: array.shape for key, array in inputs.items()})
        kinds = {node.name: node.op_type for node in graph.nodes}
        hosted = {kinds[n] for layer in model.layers if layer.kind == "host" for n in layer.nodes}
        assert hosted <= ON_THE_HOST, name
        found = result.outputs
        for key, array in wanted.items():
            assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape), name
            half = array.dtype == np.float16  # the device holds it as float32
            np.testing.assert_allclose(
                found[key].astype(np.float64), array.astype(np.float64),
                rtol=2e-3 if half else 2e-4, atol=1e-5, err_msg=f"{name}: {key}",
            )  # fmt: skip
