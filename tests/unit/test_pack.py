"""Packing: recipes by blocks, the cache, and what happens when disks and files fail."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashmem_lab.errors import CacheCorrupt, DiskFull, FlashMemError, ModelError
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower.layer import (
    LoweredModel,
    Precision,
    Recipe,
    Step,
    Storage,
    Weight,
)
from flashmem_lab.program import Packed, check_rows, container, discard, pack_weights, verify
from flashmem_lab.program import cache as cache_module
from flashmem_lab.program import pack as pack_module
from flashmem_lab.program import sources as sources_module
from flashmem_lab.program.recipes import lazy_recipe
from flashmem_lab.program.sources import Sources

Constants = dict[str, tuple[str, tuple[int, ...], bytes]]


def stored(array: np.ndarray, file: Path, offset: int = 0) -> WeightRef:
    """Writes `array` at `offset` of `file`."""
    with file.open("r+b" if file.exists() else "w+b") as stream:
        stream.seek(offset)
        stream.write(array.tobytes())
    return WeightRef(file.resolve(), offset, array.nbytes, array.dtype.name, array.shape)


def image(name: str, source: WeightRef, *, dtype: str = "float32", steps: tuple[Step, ...] = ()):
    """A weight of rows of 4-channel texels, as its source already lies."""
    height = source.shape[0]
    width = prod(source.shape[1:]) // 4
    recipe = Recipe(source, "", steps)
    return Weight(name, Storage.IMAGE2D, dtype, width, height, recipe, name)


def model_of(*weights: Weight, constants: Constants | None = None) -> LoweredModel:
    return LoweredModel(
        name="m",
        fingerprint="f",
        precision=Precision.FP32,
        layers=(),
        buffers={},
        weights={weight.name: weight for weight in weights},
        constants=constants or {},
        inputs=(),
        outputs=(),
    )


def bytes_of(packed: Packed, name: str) -> bytes:
    span = packed.spans[name]
    with packed.path.open("rb") as file:
        file.seek(span.offset)
        return file.read(span.bytes)


@pytest.fixture
def two(tmp_path: Path) -> LoweredModel:
    """Two weights of several blocks each, in one file that was written long ago."""
    rng = np.random.default_rng(0)
    file = tmp_path / "model.bin"
    first = stored(rng.standard_normal((1000, 512), np.float32), file)
    second = stored(rng.standard_normal((700, 256), np.float32), file, first.length)
    os.utime(file, ns=(1, 1))
    return model_of(image("a", first), image("b", second))


# --- recipes -------------------------------------------------------------------------------


def reference(array: np.ndarray, steps: list[Step], constants: Constants) -> np.ndarray:
    """What the steps mean, in plain NumPy."""
    for step in steps:
        args = step.args
        if step.op == "reshape":
            array = array.reshape(args)
        elif step.op == "permute":
            array = array.transpose(args)
        elif step.op == "slice":
            index = [slice(None)] * array.ndim
            index[args[0]] = slice(*args[1:])
            array = array[tuple(index)]
        elif step.op == "take":
            array = np.take(array, args[1:], args[0])
        elif step.op == "pad":
            pads = [(0, 0)] * array.ndim
            pads[args[0]] = (0, args[1] - array.shape[args[0]])
            array = np.pad(array, pads)
        elif step.op == "scale":
            dtype, shape, data = constants[str(args[1])]
            factors = np.frombuffer(data, dtype).reshape(shape)
            along = [1] * array.ndim
            along[args[0]] = -1
            array = (array * factors.reshape(along)).astype(array.dtype)
        else:
            array = array.astype(args[0])
    return array


@st.composite
def recipes(draw: st.DrawFn) -> tuple[np.ndarray, list[Step], Constants]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=0, max_size=4)))
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16", "int64", "uint8"]))
    numbers = np.arange(1, 1 + prod(shape)) % 101
    array = numbers.astype(getattr(ml_dtypes, dtype, dtype)).reshape(shape)
    steps: list[Step] = []
    constants: Constants = {}
    for at in range(draw(st.integers(0, 6))):
        op = draw(st.sampled_from(["reshape", "permute", "slice", "take", "pad", "scale", "cast"]))
        axis = draw(st.integers(0, len(shape) - 1)) if shape else None
        if op == "reshape":
            parts = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=3))
            while prod(shape) % prod(parts):
                parts.pop()
            args: tuple[int | str, ...] = (*parts, prod(shape) // prod(parts))
            shape = tuple(int(size) for size in args)
        elif op == "permute":
            args = tuple(draw(st.permutations(range(len(shape)))))
            shape = tuple(shape[k] for k in args)
        elif op == "cast":
            args = (draw(st.sampled_from(["float32", "float16"])),)
        elif axis is None:
            continue
        elif op == "slice":
            start, step = draw(st.integers(0, shape[axis] - 1)), draw(st.integers(1, 3))
            args = (axis, start, draw(st.integers(start + 1, shape[axis])), step)
            shape = (*shape[:axis], len(range(*args[1:])), *shape[axis + 1 :])
        elif op == "take":
            picked = st.integers(-shape[axis], shape[axis] - 1)
            args = (axis, *draw(st.lists(picked, min_size=1, max_size=5)))
            shape = (*shape[:axis], len(args) - 1, *shape[axis + 1 :])
        elif op == "pad":
            args = (axis, shape[axis] + draw(st.integers(0, 5)))
            shape = (*shape[:axis], args[1], *shape[axis + 1 :])
        else:
            factors = np.arange(1, 1 + shape[axis], dtype=np.float32) % 3
            constants[f"c{at}"] = ("float32", factors.shape, factors.tobytes())
            args = (axis, f"c{at}")
        steps.append(Step(op, args))
    return array, steps, constants


@settings(max_examples=300)
@given(recipes(), st.data())
def test_any_box_of_a_recipe_is_that_box_of_numpy_s_result(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[np.ndarray, list[Step], Constants],
    data: st.DataObject,
) -> None:
    array, steps, constants = case
    with np.errstate(over="ignore"):
        wanted = reference(array, steps, constants)
    ref = stored(array, tmp_path_factory.mktemp("w") / "w.bin", offset=24)
    with Sources(constants) as sources:
        lazy = lazy_recipe(Recipe(ref, "", tuple(steps)), sources, "w")
        assert lazy.shape == wanted.shape
        assert lazy.dtype == wanted.dtype
        if np.isinf(wanted.astype(np.float64)).any():
            return  # refused: see test_fp16_overflow_is_refused
        assert lazy.whole().tobytes() == wanted.tobytes()
        box = []
        for size in wanted.shape:
            start = data.draw(st.integers(0, size - 1))
            box.append((start, data.draw(st.integers(start + 1, size))))
        part = wanted[tuple(slice(*ends) for ends in box)]
        assert lazy.pull(tuple(box)).tobytes() == part.tobytes()


@settings(max_examples=60)
@given(
    rows=st.integers(1, 60),
    texels=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "float16"]),
    piece=st.sampled_from([16, 100, 4096]),
    transposed=st.booleans(),
)
def test_pack_then_unpack_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    texels: int,
    dtype: str,
    piece: int,
    transposed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("p")
    array = np.random.default_rng(rows).standard_normal((rows, texels * 4)).astype(dtype)
    source = np.ascontiguousarray(array.T) if transposed else array
    steps = (Step("permute", (1, 0)),) if transposed else ()
    ref = stored(source, folder / "w.bin")
    weight = Weight("w", Storage.IMAGE2D, dtype, texels, rows, Recipe(ref, "", steps))
    with pytest.MonkeyPatch.context() as patch:  # small pieces: many pulls and many reads
        patch.setattr(pack_module, "_PIECE_BYTES", piece)
        patch.setattr(sources_module, "PIECE_BYTES", piece)
        packed = pack_weights(model_of(weight), folder)
    unpacked = np.frombuffer(bytes_of(packed, "w"), dtype).reshape(array.shape)
    np.testing.assert_array_equal(unpacked, array)
    verify(packed)


def test_weights_lie_aligned_in_order_with_a_checksum_for_each_block(
    two: LoweredModel, tmp_path: Path
) -> None:
    packed = pack_weights(two, tmp_path / "cache")
    offsets = [packed.spans[name].offset for name in two.weights]
    assert offsets == sorted(offsets)
    for name, weight in two.weights.items():
        span = packed.spans[name]
        assert span.offset % 4096 == 0
        assert len(span.checksums) == len(weight.blocks()) > 1
        data = bytes_of(packed, name)
        for row, rows in weight.blocks():
            block = data[row * span.row_bytes : (row + rows) * span.row_bytes]
            check_rows(span, row, block, weight=name, file=packed.path)
        with pytest.raises(CacheCorrupt, match=name):
            check_rows(span, 0, data[1:] + b"\0", weight=name, file=packed.path)


def test_constants_buffers_and_fp16_are_packed(tmp_path: Path) -> None:
    ids = np.arange(5, dtype=np.int64)
    scale = np.full(8, 0.5, np.float32)
    values = np.arange(24, dtype=np.float32).reshape(3, 8)
    constants: Constants = {
        "ids": ("int64", (5,), ids.tobytes()),
        "half": ("float32", (8,), scale.tobytes()),
    }
    steps = (Step("scale", (1, "half")), Step("cast", ("float16",)))
    model = model_of(
        Weight("ids", Storage.BUFFER, "int64", 5, 1, Recipe(None, "ids", ())),
        image("w", stored(values, tmp_path / "w.bin"), dtype="float16", steps=steps),
        constants=constants,
    )
    packed = pack_weights(model, tmp_path / "cache")
    assert bytes_of(packed, "ids") == ids.tobytes()
    assert bytes_of(packed, "w") == (values / 2).astype(np.float16).tobytes()


def test_fp16_overflow_is_refused_and_infinities_pass(tmp_path: Path) -> None:
    large = np.array([[1.0, -70000.0, 2.0, np.inf]], np.float32)
    weight = image("lm_head", stored(large, tmp_path / "w.bin"), dtype="float16")
    with pytest.raises(FlashMemError, match=r"'lm_head' holds 70000, beyond"):
        pack_weights(model_of(weight), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.fmw"))
    stored(np.array([[1.0, -np.inf, 2.0, 65504.0]], np.float32), tmp_path / "w.bin")
    pack_weights(model_of(weight), tmp_path / "cache")


@pytest.mark.parametrize(
    "step",
    [
        Step("reshape", (7, 7)),
        Step("permute", (0, 0)),
        Step("pad", (0, 1)),
        Step("take", (0, 99)),
        Step("slice", (5, 0, 1, 1)),
        Step("turn", (1,)),
    ],
)
def test_a_step_that_does_not_fit_names_the_weight(tmp_path: Path, step: Step) -> None:
    ref = stored(np.zeros((4, 8), np.float32), tmp_path / "w.bin")
    with pytest.raises(FlashMemError, match=f"'w': step {step.op}"):
        pack_weights(model_of(image("w", ref, steps=(step,))), tmp_path / "cache")


# --- cache ---------------------------------------------------------------------------------


def count_bytes_hashed(two: LoweredModel, directory: Path) -> int:
    seen: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("hashing"):
            seen.append(done)

    pack_weights(two, directory, progress=progress)
    return sum(seen)


@pytest.fixture(autouse=True)
def old_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old: a test cannot wait until they are."""
    monkeypatch.setattr(cache_module, "_RACY_NS", -1)


def test_the_second_time_neither_hashes_nor_packs(two: LoweredModel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = pack_weights(two, cache)
    inode = first.path.stat().st_ino
    assert count_bytes_hashed(two, cache) == 0
    second = pack_weights(two, cache)
    assert second == first
    assert second.path.stat().st_ino == inode


def test_a_young_file_is_hashed_again(
    two: LoweredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_RACY_NS", 3600 * 10**9)
    pack_weights(two, tmp_path / "cache")
    assert count_bytes_hashed(two, tmp_path / "cache") > 0


def test_changed_content_and_changed_layout_change_the_key(
    two: LoweredModel, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = pack_weights(two, cache)
    other_order = model_of(*reversed(two.weights.values()))
    assert pack_weights(other_order, cache).key != first.key
    file = tmp_path / "model.bin"
    with file.open("r+b") as stream:
        stream.write(b"\1")
    os.utime(file, ns=(1, 1))  # a change hidden from mtime is seen by ctime
    changed = pack_weights(two, cache)
    assert changed.key != first.key
    assert bytes_of(changed, "a")[0] == 1


def test_a_constant_is_part_of_the_key(tmp_path: Path) -> None:
    weight = Weight("c", Storage.BUFFER, "float32", 2, 1, Recipe(None, "c", ()))
    keys = set()
    for value in (1.0, 2.0):
        data = np.full(2, value, np.float32).tobytes()
        model = model_of(weight, constants={"c": ("float32", (2,), data)})
        keys.add(pack_weights(model, tmp_path).key)
    assert len(keys) == 2


@pytest.mark.parametrize("where", [0, 9, 20, 4090, -1, -40])
def test_a_damaged_header_is_packed_anew(two: LoweredModel, tmp_path: Path, where: int) -> None:
    cache = tmp_path / "cache"
    packed = pack_weights(two, cache)
    good = packed.path.read_bytes()
    bad = bytearray(good)
    bad[where] ^= 0x40
    packed.path.write_bytes(bad)
    assert pack_weights(two, cache) == packed
    assert packed.path.read_bytes() == good


@pytest.mark.parametrize("keep", [0, 5, 4096, 100_000, -1])
def test_a_truncated_file_is_packed_anew(two: LoweredModel, tmp_path: Path, keep: int) -> None:
    packed = pack_weights(two, tmp_path)
    good = packed.path.read_bytes()
    packed.path.write_bytes(good[:keep])
    assert pack_weights(two, tmp_path) == packed
    assert packed.path.read_bytes() == good


def test_damaged_data_is_found_and_can_be_discarded(two: LoweredModel, tmp_path: Path) -> None:
    packed = pack_weights(two, tmp_path)
    good = packed.path.read_bytes()
    bad = bytearray(good)
    bad[packed.spans["b"].offset + 12345] ^= 1
    packed.path.write_bytes(bad)
    with pytest.raises(CacheCorrupt) as caught:
        verify(packed)
    assert caught.value.weight == "b"
    discard(packed)
    discard(packed)
    verify(pack_weights(two, tmp_path))
    assert packed.path.read_bytes() == good


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"x": 3}', "[" * 100_000])
def test_a_damaged_index_is_ignored(two: LoweredModel, tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.json").write_text(text)
    pack_weights(two, tmp_path)
    assert str((tmp_path / "model.bin").resolve()) in json.loads(
        (tmp_path / "sources.json").read_text()
    )


def test_stale_temporary_files_go_and_young_ones_stay(two: LoweredModel, tmp_path: Path) -> None:
    old, young = tmp_path / ".x.fmw.abc.tmp", tmp_path / ".x.fmw.def.tmp"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 200_000,) * 2)
    pack_weights(two, tmp_path)
    assert not old.exists()
    assert young.exists()


# --- failures ------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_makes_room(
    two: LoweredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    packed = pack_weights(two, cache)
    for name, hours in (("old", 5.0), ("older", 6.0), ("young", 0.5)):
        (cache / f"{name}.fmw").write_bytes(bytes(1000))
        used = time.time() - hours * 3600
        os.utime(cache / f"{name}.fmw", (used, used))
    (cache / "device-1.json").write_text("{}")
    os.utime(packed.path, (0, 0))
    assert pack_weights(two, cache).path == packed.path  # used now
    free = packed.path.stat().st_size + 3000  # as much as the cache holds

    class Disk:
        total = used = 10**9

    monkeypatch.setattr(Disk, "free", free, raising=False)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: Disk)
    cache_module.make_room(cache, 0)
    assert (cache / "older.fmw").exists(), "half of what is free takes it all"
    cache_module.make_room(cache, 500)
    assert not (cache / "older.fmw").exists()
    assert (cache / "old.fmw").exists()
    cache_module.make_room(cache, 10**9)
    assert {path.name for path in cache.glob("*.fmw")} == {packed.path.name, "young.fmw"}
    assert (cache / "device-1.json").exists(), "a profile is no packed file"


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name != "sources.json"]


def test_too_little_room_is_said_before_any_work(
    two: LoweredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Path) -> object:
        return type("Usage", (), {"free": 1000})()

    monkeypatch.setattr(container.shutil, "disk_usage", usage)
    cache = tmp_path / "cache"
    with pytest.raises(DiskFull, match=r"needs 2\.8 MB \(\d+ bytes\).*1\.0 kB \(1000 bytes\)"):
        pack_weights(two, cache)
    assert leftovers(cache) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync"])
def test_a_disk_that_fills_up_leaves_nothing(
    two: LoweredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull, match="the disk is full while packing weights"):
        pack_weights(two, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_write_beyond_the_limit_of_the_process_leaves_nothing(
    two: LoweredModel, tmp_path: Path
) -> None:
    """A real failing write: the file size limit, with its signal ignored, gives EFBIG."""
    code = """
import pickle, resource, signal, sys, os
from pathlib import Path
from flashmem_lab.errors import FlashMemError
from flashmem_lab.program import pack_weights
model = pickle.loads(Path(sys.argv[1]).read_bytes())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
del os.posix_fallocate
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    pack_weights(model, Path(sys.argv[2]))
except FlashMemError as error:
    print(error)
"""
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(two))
    cache = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pickle"), str(cache)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large while packing weights" in done.stdout
    assert leftovers(cache) == []


def test_a_file_system_that_cannot_reserve_is_let_pass(
    two: LoweredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    verify(pack_weights(two, tmp_path))


def test_an_interrupt_leaves_nothing(two: LoweredModel, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "packing weights":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_weights(two, tmp_path / "cache", progress=interrupt)
    assert leftovers(tmp_path / "cache") == []


def test_a_source_that_changes_while_packing_is_refused(two: LoweredModel, tmp_path: Path) -> None:
    def meddle(what: str, done: int, total: int) -> None:
        if what == "packing weights":
            os.utime(tmp_path / "model.bin", ns=(done, done))

    with pytest.raises(FlashMemError, match="changed while"):
        pack_weights(two, tmp_path / "cache", progress=meddle)
    assert leftovers(tmp_path / "cache") == []


def test_a_missing_and_a_truncated_source_are_named(two: LoweredModel, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ModelError, match=r"model\.bin ends before"):
        pack_weights(two, tmp_path / "cache")
    file.unlink()
    with pytest.raises(ModelError, match=r"model\.bin .* is missing"):
        pack_weights(two, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_two_packers_at_once_do_not_meet(two: LoweredModel, tmp_path: Path) -> None:
    """The second one starts and ends while the first is in the middle."""
    cache = tmp_path / "cache"
    inner: list[Packed] = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if what == "packing weights" and not inner:
            inner.append(pack_weights(two, cache))

    outer = pack_weights(two, cache, progress=meanwhile)
    assert inner == [outer]
    verify(outer)
    assert leftovers(cache) == [outer.path.name]


def test_packing_a_transposed_giant_takes_little_memory(tmp_path: Path) -> None:
    """A 128 MB table, transposed, in a process that may hold a third of that beside NumPy."""
    rows, columns = 32768, 1024
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(rows * columns * 4)
    code = f"""
import resource, sys
from pathlib import Path
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower.layer import *
from flashmem_lab.program import pack_weights
ref = WeightRef(Path(sys.argv[1]), 0, {rows * columns * 4}, "float32", ({rows}, {columns}))
recipe = Recipe(ref, "", (Step("permute", (1, 0)),))
weight = Weight("w", Storage.IMAGE2D, "float32", {rows // 4}, {columns}, recipe)
model = LoweredModel("m", "f", Precision.FP32, (), {{}}, {{"w": weight}}, {{}}, (), ())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pack_weights(model, Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.bin"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    kibibytes = int(done.stdout)
    assert kibibytes < 40 * 1024, f"packing took {kibibytes} KiB"
