"""The zoo: every recipe is readable, and a model is written whole, the same each time, or not."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import shutil
import tarfile
import tracemalloc
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab import zoo
from flashmem_lab.cli import main
from flashmem_lab.errors import DiskFull, FlashMemError, UsageError
from flashmem_lab.zoo import recipe, weights, writer

PAPER = {
    "deepvit",
    "depth-anything-large",
    "depth-anything-small",
    "gptneo-1.3b",
    "gptneo-2.7b",
    "gptneo-small",
    "resnet50",
    "sam2",
    "sd-unet",
    "vit",
    "whisper-medium",
}
SMALL_BYTES = 32 * 2**20  # models of no more weights are made and run here
SMALL = [name for name in zoo.names() if zoo.entry(name).data_bytes <= SMALL_BYTES]


@pytest.fixture
def tiny(tmp_path: Path) -> zoo.ZooEntry:
    """A model of one MatMul whose second factor is a constant, with a gap for alignment."""
    mask = (np.arange(32 * 8) % 2 == 0).astype(np.float32).reshape(32, 8)
    rows: list[dict[str, Any]] = [
        {"name": "w", "origin": "fc.weight", "shape": [16, 32], "fan_in": 16, "offset": 0},
        {"name": "b", "origin": "fc.bias", "shape": [32], "fan_in": 0, "offset": 2048},
        {"name": "mask", "shape": [32, 8], "constant": 4, "offset": 4096},
    ]
    initializers = []
    for row in rows:
        row |= {"dtype": "float32", "length": 4 * math.prod(row["shape"])}
        tensor = TensorProto(
            name=row["name"],
            data_type=TensorProto.FLOAT,
            dims=row["shape"],
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": "tiny.onnx.data", "offset": row["offset"], "length": row["length"]}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["h"]),
            helper.make_node("MatMul", ["h", "mask"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = {
        "exporter": {"torch": "0"},
        "opset": 20,
        "params": 544,
        "macs": 1536,
        "nodes": 3,
        "operators": {"Add": 1, "MatMul": 2},
        "outputs": {"y": [2, 8]},
        "data_bytes": 5120,
        "tensors": rows,
    }
    members = {
        "facts.json": json.dumps(facts).encode(),
        "model.onnx": model.SerializeToString(),
        "constants.bin": b"skip" + mask.tobytes(),
    }
    with tarfile.open(tmp_path / "tiny.tar.xz", "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (tmp_path / "tiny.toml").write_text(
        """
        title = "Tiny"
        source = {}
        inputs = [{ name = "x", dtype = "float32", shape = [2, 16], draw = { std = 1.0 } }]
        weights = [{ match = 'bias$', distribution = "uniform", low = 2.0, high = 3.0 }]
        """
    )
    return recipe.load(tmp_path, "tiny")


def read(path: Path) -> dict[str, NDArray[Any]]:
    model = onnx.load(path)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_papers_models_are_in_the_zoo_and_say_how_they_differ() -> None:
    entries = {name: zoo.entry(name) for name in zoo.names()}
    assert {name for name, entry in entries.items() if entry.paper is not None} == PAPER
    for name in PAPER:
        assert entries[name].note


def test_every_recipe_has_its_export() -> None:
    recipes = {Path(item.name).stem for item in recipe.data_folder().iterdir()}
    assert {name.removesuffix(".tar") for name in recipes} == set(zoo.names())


def test_the_list_shows_the_papers_figures_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert {model["name"] for model in listed[: len(PAPER)]} == PAPER
    assert all(model["paper"] is None for model in listed[len(PAPER) :])
    whisper = next(model for model in listed if model["name"] == "whisper-medium")
    assert whisper["paper"] == {
        "name": "Whisper-M",
        "params_m": 356,
        "macs_g": 55,
        "layers": 2026,
    }
    assert main(["zoo", "list"]) == 0
    figures, notes = capsys.readouterr().out.split("\n\n")
    row = next(line.split() for line in figures.splitlines() if line.startswith("whisper-medium"))
    assert row == ["whisper-medium", "763.9", "356", "652.2", "55", "2222", "2026", "3.1", "GB"]
    assert "without its cross attention" in " ".join(notes.split())


@pytest.mark.parametrize("name", zoo.names())
def test_entry_is_consistent(name: str) -> None:
    entry = zoo.entry(name)
    assert entry.title
    assert entry.opset == 20
    assert sum(entry.operators.values()) == entry.nodes
    end = 0
    for tensor in entry.tensors:
        assert tensor.offset >= end
        assert tensor.offset % 4096 == 0 or tensor.length < 64 * 1024
        assert tensor.length == np.dtype(tensor.dtype).itemsize * math.prod(tensor.shape)
        assert (tensor.distribution is None) != (tensor.constant is None)
        end = tensor.offset + tensor.length
    assert end == entry.data_bytes
    drawn = sum(math.prod(t.shape) for t in entry.tensors if t.distribution is not None)
    # Folded norms are the difference, and Swin's position tables, which are gathered beforehand.
    assert drawn == pytest.approx(entry.params, rel=0.012)


@pytest.mark.parametrize("name", zoo.names())
def test_graph_agrees_with_its_facts_and_names_no_machine(name: str) -> None:
    entry = zoo.entry(name)
    graph = writer._graph(entry, seed=0)
    model = onnx.load_model_from_string(graph)
    external = {
        tensor.name: {item.key: item.value for item in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    assert external == {
        tensor.name: {
            "location": f"{name}.onnx.data",
            "offset": str(tensor.offset),
            "length": str(tensor.length),
        }
        for tensor in entry.tensors
    }
    assert [value.name for value in model.graph.input] == [spec.name for spec in entry.inputs]
    assert {value.name for value in model.graph.output} == set(entry.outputs)
    assert b".py" not in graph
    assert b"site-packages" not in graph


@pytest.mark.parametrize("name", zoo.names())
def test_sample_inputs_have_the_declared_shapes(name: str) -> None:
    inputs = zoo.sample_inputs(name, seed=3)
    again = zoo.sample_inputs(name, seed=3)
    for spec in zoo.entry(name).inputs:
        assert inputs[spec.name].shape == spec.shape
        assert inputs[spec.name].dtype == spec.dtype
        assert np.array_equal(inputs[spec.name], again[spec.name])
        if isinstance(spec.draw, weights.Integers):
            assert spec.draw.low <= inputs[spec.name].min()
            assert inputs[spec.name].max() < spec.draw.high


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'resnet51'") as caught:
        zoo.make("resnet51", tmp_path)
    assert "resnet50" in caught.value.hint


def test_a_made_model_passes_onnx_checker_and_has_the_declared_weights(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = zoo.make("resnet50", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "resnet50.onnx",
        "resnet50.onnx.data",
    ]
    entry = zoo.entry("resnet50")
    assert (tmp_path / "resnet50.onnx.data").stat().st_size == entry.data_bytes
    assert seen == sorted(seen)
    assert seen[-1] == (entry.data_bytes, entry.data_bytes)
    onnx.checker.check_model(str(path), full_check=True)
    arrays = read(path)
    for tensor in entry.tensors:
        assert isinstance(tensor.distribution, weights.Normal)
        values = arrays[tensor.name].astype(np.float64)
        tolerance = 5 * tensor.distribution.std / values.size**0.5
        assert values.mean() == pytest.approx(tensor.distribution.mean, abs=tolerance)
        assert values.std() == pytest.approx(tensor.distribution.std, rel=4 / values.size**0.5)
        if tensor.distribution.row:
            sums = values.reshape(-1, tensor.distribution.row).sum(axis=1)
            assert (
                np.abs(sums).max() < 0.01 * tensor.distribution.std * tensor.distribution.row**0.5
            )


def test_what_a_model_holds_is_right(tiny: zoo.ZooEntry, tmp_path: Path) -> None:
    path = writer.write(tiny, tmp_path / "new" / "folder", seed=0)
    onnx.checker.check_model(str(path), full_check=True)
    arrays = read(path)
    assert arrays["w"].std() == pytest.approx(16**-0.5, rel=0.1)
    assert arrays["b"].min() >= 2.0
    assert arrays["b"].max() < 3.0
    assert np.array_equal(arrays["mask"].ravel(), np.arange(256) % 2 == 0)
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert metadata["flashmem_lab.zoo.seed"] == "0"


def test_a_write_holds_no_more_than_some_blocks(tiny: zoo.ZooEntry, tmp_path: Path) -> None:
    """So that a model of 10 GB, whose largest tensor is 0.5 GB, is written in much less memory."""
    size = 48 * 2**20
    held = tmp_path / "held.tar.xz"
    with (
        tarfile.open(held, "w:xz", preset=0) as archive,
        tarfile.open(tmp_path / "tiny.tar.xz") as old,
    ):
        graph = recipe.read_member(old, "model.onnx")
        for name, content in (("model.onnx", graph), ("constants.bin", bytes(size))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    shape = (size // 4 // 1024, 1024)
    tensors = (
        zoo.TensorSpec("drawn", "float32", shape, 0, size, weights.Normal(0.0, 1.0), None),
        zoo.TensorSpec(
            "centred", "float32", shape, size, size, weights.Normal(0.0, 1.0, 1024), None
        ),
        zoo.TensorSpec("constant", "float32", shape, 2 * size, size, None, 0),
    )
    entry = dataclasses.replace(tiny, tensors=tensors, data_bytes=3 * size, archive=held)
    tracemalloc.start()
    try:
        path = writer.write(entry, tmp_path / "out", seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.with_name("tiny.onnx.data").stat().st_size == 3 * size
    assert peak < 32 * 2**20 < size


@pytest.mark.parametrize("name", SMALL)
def test_what_a_model_answers_depends_on_what_it_is_given(name: str, tmp_path: Path) -> None:
    """At wrong scales, weights answer the same to every picture, or no numbers at all."""
    import onnxruntime

    session = onnxruntime.InferenceSession(zoo.make(name, tmp_path))
    for first, second in zip(
        *(session.run(None, zoo.sample_inputs(name, seed=seed)) for seed in (0, 1)), strict=True
    ):
        assert np.isfinite(first).all()
        assert np.linalg.norm(first - second) > 0.01 * np.linalg.norm(first)


def test_same_seed_same_bytes_other_seed_other_weights(tiny: zoo.ZooEntry, tmp_path: Path) -> None:
    def made(folder: str, seed: int) -> tuple[bytes, bytes]:
        path = writer.write(tiny, tmp_path / folder, seed=seed)
        return path.read_bytes(), path.with_name("tiny.onnx.data").read_bytes()

    first, again, other = made("a", 1), made("b", 1), made("c", 2)
    assert first == again
    assert first[0] != other[0]
    assert first[1][:2176] != other[1][:2176]
    assert first[1][2176:] == other[1][2176:]  # the gap and the constant


def test_drawn_numbers_never_change() -> None:
    """Golden values: every user's weights, on whatever numpy, are these."""
    normal = weights.draw(weights.Normal(0.0, 1.0), seed=0, name="w", count=3)
    integers = weights.draw(weights.Integers(0, 50257), seed=0, name="w", count=3)
    assert normal.tolist() == [-0.251868337392807, -0.3385290205478668, -0.10693172365427017]
    assert integers.tolist() == [2282, 44389, 24200]


@given(row=st.integers(2, 40), rows=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_centred_rows_add_up_to_nothing_in_blocks_of_any_size(
    row: int, rows: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "BLOCK_ELEMENTS", 64)
        values = weights.draw(weights.Normal(0.0, 1.0, row), seed=seed, name="w", count=row * rows)
    assert values.shape == (row * rows,)
    # The mean taken off is whole, in steps of 1/37837 std: what stays is less than that per number.
    assert np.abs(values.reshape(rows, row).sum(axis=1)).max() < row / 37000


def test_a_file_that_is_already_there(tiny: zoo.ZooEntry, tmp_path: Path) -> None:
    path = writer.write(tiny, tmp_path / "out", seed=0)
    written = path.stat().st_mtime_ns
    assert writer.write(tiny, tmp_path / "out", seed=0).stat().st_mtime_ns == written
    with pytest.raises(FlashMemError, match="already has another") as caught:
        writer.write(tiny, tmp_path / "out", seed=1)
    assert "--force" in caught.value.hint
    assert path.stat().st_mtime_ns == written
    writer.write(tiny, tmp_path / "out", seed=1, force=True)
    assert b"flashmem_lab.zoo.seed\x12\x011" in path.read_bytes()


Failing = Callable[..., Iterator[NDArray[Any]]]


def failing_blocks(error: BaseException) -> Failing:
    def blocks(*args: Any, **kwargs: Any) -> Iterator[NDArray[Any]]:
        yield np.zeros(8, np.float32)
        raise error

    return blocks


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
        (OSError(errno.EIO, "Input/output error"), FlashMemError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_make_leaves_nothing(
    tiny: zoo.ZooEntry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    there_before: bool,
) -> None:
    folder = tmp_path / "out"
    if there_before:
        folder.mkdir()
    monkeypatch.setattr(writer, "blocks", failing_blocks(error))
    with pytest.raises(raised):
        writer.write(tiny, folder, seed=0)
    assert folder.exists() == there_before
    assert not list(tmp_path.glob("out/*"))


def test_what_a_killed_make_left_is_removed_and_a_running_one_is_let_be(
    tiny: zoo.ZooEntry, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed, other = out / ".tiny-a.part", out / ".resnet50-a.part"
    for folder in (killed, other):
        folder.mkdir(parents=True)
        (folder / "tiny.onnx.data").write_bytes(bytes(100))
    with writer._part_folder(out, "tiny") as running:
        writer.write(tiny, out, seed=0)
        assert running.exists()
    assert sorted(item.name for item in out.iterdir()) == [
        other.name,
        "tiny.onnx",
        "tiny.onnx.data",
    ]


def test_a_failed_overwrite_keeps_the_old_model(
    tiny: zoo.ZooEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = writer.write(tiny, tmp_path / "out", seed=0)
    before = path.read_bytes(), path.with_name("tiny.onnx.data").read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(writer, "blocks", failing_blocks(full))
    with pytest.raises(DiskFull):
        writer.write(tiny, tmp_path / "out", seed=1, force=True)
    assert before == (path.read_bytes(), path.with_name("tiny.onnx.data").read_bytes())
    assert len(list(path.parent.iterdir())) == 2


def test_too_small_a_disk_is_told_before_anything_is_written(
    tiny: zoo.ZooEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 9000, 999))
    with pytest.raises(DiskFull, match="no room for tiny, which takes") as caught:
        writer.write(tiny, tmp_path / "out", seed=0)
    assert "-o" in caught.value.hint
    assert not (tmp_path / "out").exists()
