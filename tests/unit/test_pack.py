"""Packed weights in the cache, and what happens when disks and files fail."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.errors import CacheCorrupt, DiskFull, FlashMemError, ModelError
from flashmem_lab.lower.layer import (
    LoweredModel,
    Recipe,
    Storage,
    Weight,
)
from flashmem_lab.program import Packed, container, discard, pack_weights, verify
from flashmem_lab.program import cache as cache_module
from tests.unit.packing import bytes_of, model_of, two_weights


@pytest.fixture
def two(tmp_path: Path) -> LoweredModel:
    return two_weights(tmp_path)


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


def test_files_of_killed_writers_go_and_those_of_living_ones_stay(
    two: LoweredModel, tmp_path: Path
) -> None:
    """A killed packer leaves a file as large as its model, which the next one may need."""
    code = "\n".join(
        [
            "import os, signal, sys",
            "from pathlib import Path",
            "from flashmem_lab.program.container import replacing",
            "with replacing(Path(sys.argv[1]), 'writing'):",
            "    os.kill(os.getpid(), signal.SIGKILL)",
        ]
    )
    target = tmp_path / "x.fmw"
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    (left,) = tmp_path.glob(".*.tmp")
    with container.replacing(tmp_path / "y.fmw", "writing"):
        (living,) = set(tmp_path.glob(".*.tmp")) - {left}
        container.remove_stale(tmp_path)
        assert left.exists(), "young: its writer may not have locked it yet"
        for file in (left, living):
            os.utime(file, (time.time() - 60,) * 2)
        pack_weights(two, tmp_path)
        assert not left.exists()
        assert living.exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with container.replacing(path, "writing") as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    with (
        pytest.raises(FlashMemError, match=r"while writing .*/none/y\.fmw"),
        container.replacing(tmp_path / "none" / "y.fmw", "writing"),
    ):
        pass


def test_a_file_that_cannot_be_locked_is_kept_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*args: object) -> None:
        raise OSError(errno.ENOLCK, "no")

    monkeypatch.setattr(container.fcntl, "flock", cannot)
    old, young = tmp_path / ".x.fmw.abc.tmp", tmp_path / ".x.fmw.def.tmp"
    for file, age_s in ((old, 200_000), (young, 3600)):
        file.touch()
        os.utime(file, (time.time() - age_s,) * 2)
    with container.replacing(tmp_path / "y.fmw", "writing") as made:
        made.write(b"1")
    container.remove_stale(tmp_path)
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
