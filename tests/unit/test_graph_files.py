"""Weights are never read, damaged and unsafe files are refused, 5 GB open in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab.errors import FlashMemError, ModelError
from flashmem_lab.graph import open_graph, read_weight
from flashmem_lab.graph.scan import SELF, skeleton
from flashmem_lab.graph.tensors import numpy_dtype

RNG = np.random.default_rng(7)


def matmul_model(weight: TensorProto, *, constant: bool = False) -> onnx.ModelProto:
    """`y = x @ w`, the weight an initializer or a Constant node."""
    rows, columns = weight.dims
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", weight.data_type, [4, rows])],
        [helper.make_tensor_value_info("y", weight.data_type, [4, columns])],
        [] if constant else [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def external_model(folder: Path, location: str, **entries: str) -> Path:
    """A model whose 64x48 weight lies in `location`."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 48])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(matmul_model(weight).SerializeToString())
    return path


# --- inline weights ------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "uint8", "bfloat16", "float8_e4m3fn"]
)
def test_inline_weights_become_references(tmp_path: Path, dtype: str, constant: bool) -> None:
    array = (RNG.standard_normal((512, 300)) * 8).astype(numpy_dtype(dtype))
    model = matmul_model(numpy_helper.from_array(array, "w"), constant=constant)
    model.graph.node[-1].CopyFrom(helper.make_node("Transpose", ["w"], ["y"]))  # takes every type
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    bare = onnx.ModelProto.FromString(skeleton(path)).graph
    tensor = bare.node[0].attribute[0].t if constant else bare.initializer[0]
    assert not tensor.raw_data
    assert {entry.key: entry.value for entry in tensor.external_data}["location"] == SELF
    ref = open_graph(path).weights["w"]
    assert (ref.dtype, ref.shape) == (dtype, (512, 300))
    np.testing.assert_array_equal(read_weight(ref).view(np.uint8), array.view(np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_typed_payloads_become_references_too(tmp_path: Path, dtype: type) -> None:
    array = RNG.standard_normal((64, 48)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = helper.make_tensor("w", kind, array.shape, array.ravel())
    assert not weight.raw_data
    path = tmp_path / "m.onnx"
    path.write_bytes(matmul_model(weight).SerializeToString())
    np.testing.assert_array_equal(read_weight(open_graph(path).weights["w"]), array)


def test_payloads_stored_as_numbers_are_kept_in_memory(tmp_path: Path) -> None:
    array = RNG.standard_normal((64, 48)).astype(np.float16)
    weight = helper.make_tensor("w", TensorProto.FLOAT16, array.shape, array.ravel())
    path = tmp_path / "m.onnx"
    path.write_bytes(matmul_model(weight).SerializeToString())
    np.testing.assert_array_equal(open_graph(path).constants["w"], array)


def test_the_skeleton_of_a_model_without_weights_is_the_model(tmp_path: Path) -> None:
    model = matmul_model(numpy_helper.from_array(np.ones((3, 2), np.float32), "w"))
    model.doc_string = "a" * 5000
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert onnx.ModelProto.FromString(skeleton(path)) == model


def test_weights_are_read_only(tmp_path: Path) -> None:
    array = RNG.standard_normal((64, 48)).astype(np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(matmul_model(numpy_helper.from_array(array, "w")).SerializeToString())
    view = read_weight(open_graph(path).weights["w"])
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


def test_a_weight_that_went_away_is_reported(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64 * 48 * 4))
    ref = open_graph(external_model(tmp_path, "w.bin")).weights["w"]
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="cannot read"):
        read_weight(ref)


# --- external data -------------------------------------------------------------------------


def test_external_weights_are_found_in_folders_below(tmp_path: Path) -> None:
    array = RNG.standard_normal((64, 48)).astype(np.float32)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"\0" * 10 + array.tobytes())
    path = external_model(tmp_path, "data/w.bin", offset="10", length=str(array.nbytes))
    np.testing.assert_array_equal(read_weight(open_graph(path).weights["w"]), array)


@pytest.mark.parametrize(
    "location", ["../w.bin", "a/../../w.bin", "/etc/passwd", "C:\\w.bin", "..\\w.bin", "", "a\0b"]
)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64 * 48 * 4))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"tensor 'w' points outside"):
        open_graph(external_model(folder, location))


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "w.bin").write_bytes(bytes(64 * 48 * 4))
    folder = tmp_path / "model"
    folder.mkdir()
    if linked == "file":
        (folder / "w.bin").symlink_to(outside / "w.bin")
        path = external_model(folder, "w.bin")
    else:
        (folder / "sub").symlink_to(outside)
        path = external_model(folder, "sub/w.bin")
    with pytest.raises(ModelError, match="link that leaves"):
        open_graph(path)


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(bytes(64 * 48 * 4))
    (tmp_path / "w.bin").symlink_to("real.bin")
    assert "w" in open_graph(external_model(tmp_path, "w.bin")).weights


def test_a_model_in_the_cache_of_a_hub_is_opened(tmp_path: Path) -> None:
    """Model and data are links there, into one folder of files under other names."""
    folder, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    folder.mkdir()
    blobs.mkdir()
    (blobs / "2b").write_bytes(bytes(64 * 48 * 4))
    external_model(folder, "model.onnx_data").rename(blobs / "1a")
    (folder / "model.onnx").symlink_to("../blobs/1a")
    (folder / "model.onnx_data").symlink_to("../blobs/2b")
    assert "w" in open_graph(folder / "model.onnx").weights
    (tmp_path / "secret").write_bytes(bytes(64 * 48 * 4))
    (folder / "model.onnx_data").unlink()
    (folder / "model.onnx_data").symlink_to("../secret")
    with pytest.raises(ModelError, match="link that leaves"):
        open_graph(folder / "model.onnx")


def test_a_missing_file_is_named_with_its_tensor(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tensor 'w' .*'gone.bin'.* missing"):
        open_graph(external_model(tmp_path, "gone.bin"))


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        open_graph(external_model(tmp_path, "pipe"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "4"}, "has only 12288 bytes"),
        ({"offset": "-4"}, "lies at bytes -4"),
        ({"length": "12284"}, "needs 12288 bytes"),
        ({"length": "0"}, "needs 12288 bytes"),
        ({"offset": "many"}, "not a number"),
        ({"offset": str(1 << 70)}, "has only"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    tmp_path: Path, entries: dict[str, str], message: str
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64 * 48 * 4))
    with pytest.raises(ModelError, match=message):
        open_graph(external_model(tmp_path, "w.bin", **entries))


def test_four_bit_weights_are_refused_by_name(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.INT4, dims=[64, 48], raw_data=bytes(1536))
    path = tmp_path / "m.onnx"
    path.write_bytes(matmul_model(weight).SerializeToString())
    with pytest.raises(ModelError, match="INT4, which is not supported"):
        open_graph(path)


# --- damage --------------------------------------------------------------------------------


def sample() -> bytes:
    weight = numpy_helper.from_array(RNG.standard_normal((64, 48)).astype(np.float32), "w")
    return bytes(matmul_model(weight, constant=True).SerializeToString())


SAMPLE = sample()
QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(length=st.integers(0, len(SAMPLE) - 1))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(SAMPLE[:length])
    with pytest.raises(ModelError):
        open_graph(path)


@QUICK
@given(changes=st.dictionaries(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), max_size=8))
def test_damage_never_escapes_as_another_error(tmp_path: Path, changes: dict[int, int]) -> None:
    data = bytearray(SAMPLE)
    for position, value in changes.items():
        data[position] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    try:
        graph = open_graph(path)
    except FlashMemError:
        return
    for ref in graph.weights.values():
        assert read_weight(ref).shape == ref.shape


@QUICK
@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        open_graph(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    inner = b"x" * 2000
    for _ in range(120):  # graph in attribute in node in graph in attribute ...
        for tag in (0x32, 0x2A, 0x0A):
            inner = bytes([tag]) + varint(len(inner)) + inner
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x3a" + varint(len(inner)) + inner)
    with pytest.raises(ModelError, match="nested more than"):
        open_graph(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(ModelError, match="no model file"):
            open_graph(path)


# --- size ----------------------------------------------------------------------------------

MEASURE = """
import sys, time
import flashmem_lab.graph.opening
def peak():
    text = open("/proc/self/status").read()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024
before = peak()
start = time.perf_counter()
graph = flashmem_lab.graph.opening.open_graph(sys.argv[1])
seconds = time.perf_counter() - start
print(sum(r.length for r in graph.weights.values()), len(graph.nodes), seconds, before, peak())
"""


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def chain(layers: int, width: int) -> tuple[onnx.ModelProto, list[TensorProto]]:
    """A chain of square MatMuls and its weights, which hold no data yet."""
    names = [f"h{i}" for i in range(layers + 1)]
    nodes = [
        helper.make_node("MatMul", [a, f"w{i}"], [b]) for i, (a, b) in enumerate(pairwise(names))
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    tensors = [
        TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
        for i in range(layers)
    ]
    return model, tensors


def write_external(path: Path, layers: int, width: int) -> None:
    """External data in one sparse file, which costs no disk."""
    model, tensors = chain(layers, width)
    size = width * width * 4
    for i, tensor in enumerate(tensors):
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "weights.bin", "offset": str(i * size), "length": str(size)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(layers * size)


def write_inline(path: Path, layers: int, width: int) -> None:
    """Inline raw_data, written field by field so that the zeros are holes in the file."""
    model, tensors = chain(layers, width)
    size = width * width * 4
    body = model.graph.SerializeToString()
    heads = []
    for tensor in tensors:
        head = tensor.SerializeToString() + b"\x4a" + varint(size)  # raw_data
        heads.append(b"\x2a" + varint(len(head) + size) + head)  # initializer
    model.ClearField("graph")
    length = len(body) + sum(len(head) + size for head in heads)
    with path.open("wb") as file:
        file.write(model.SerializePartialToString() + b"\x3a" + varint(length) + body)
        for head in heads:
            file.write(head)
            file.seek(size, os.SEEK_CUR)
        file.truncate(file.tell())


@pytest.mark.parametrize(
    ("write", "layers", "width"),
    [(write_external, 40, 5632), (write_inline, 24, 4096), (write_inline, 6, 16384)],
    ids=["external 5 GB", "inline 1.6 GB", "inline 6 GB"],
)
def test_big_models_open_quickly_in_little_memory(
    tmp_path: Path, write: object, layers: int, width: int
) -> None:
    path = tmp_path / "big.onnx"
    assert callable(write)
    write(path, layers, width)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    total, nodes, seconds, before, peak = map(float, done.stdout.split())
    assert total == layers * width * width * 4
    assert nodes == layers
    assert seconds < 5
    assert peak < 300e6
    assert peak - before < 50e6
