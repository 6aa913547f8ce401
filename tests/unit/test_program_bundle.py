"""The bundle: what is written is read back, and damage anywhere is refused."""

from __future__ import annotations

import errno
import importlib.util
import os
import zlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from flashmem_lab.errors import BundleError, CacheCorrupt, DiskFull, FlashMemError
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower.layer import LoweredModel, Recipe
from flashmem_lab.program import (
    Packed,
    build_program,
    codec,
    container,
    is_bundle,
    pack_weights,
    read_bundle,
    verify,
    write_bundle,
)
from flashmem_lab.program.container import encode_header, encode_preamble
from flashmem_lab.program.program import Program
from flashmem_lab.serial import to_plain


def _load(name: str) -> ModuleType:
    """A neighbour of this file; tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load("test_program")


def with_bytes(model: LoweredModel, folder: Path) -> LoweredModel:
    """The model with random bytes behind its weights."""
    weights = {}
    rng = np.random.default_rng(0)
    for name, item in model.weights.items():
        file = (folder / f"{name}.bin").resolve()
        file.write_bytes(rng.bytes(item.packed_bytes))
        ref = WeightRef(file, 0, item.packed_bytes, "float32", (item.packed_bytes // 4,))
        weights[name] = replace(item, recipe=Recipe(ref, "", ()))
    return replace(model, weights=weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def built(folder: Path) -> tuple[Program, Packed]:
    layers = [
        programs.layer(0, ["b0"], ["b1"], ["w2"]),
        programs.layer(1, ["b1"], ["b2"], ["w1"]),
    ]
    weights = [programs.weight("w2", 3), programs.weight("w1", 20)]
    model = with_bytes(programs.model_of(layers, weights), folder)
    packed = pack_weights(model, folder / "cache")
    plan = programs.plan_of(model, {"w1": 0})
    return build_program(plan, model, packed, renderer=programs.renderer), packed


def read_weight(path: Path, program: Program, name: str) -> bytes:
    with path.open("rb") as file:
        file.seek(program.spans[name].offset)
        return file.read(program.spans[name].bytes)


def test_what_is_written_is_read_back(built: tuple[Program, Packed], folder: Path) -> None:
    program, packed = built
    path = folder / "m.fmb"
    write_bundle(program, packed, path)
    found, weights = read_bundle(path)
    assert weights == path
    assert is_bundle(path)
    assert not is_bundle(packed.path)
    places = {name: span.offset for name, span in found.spans.items()}
    assert all(offset % 4096 == 0 for offset in places.values())
    moved = {n: replace(s, offset=program.spans[n].offset) for n, s in found.spans.items()}
    assert replace(found, spans=moved) == program
    for name in program.spans:
        assert read_weight(path, found, name) == read_weight(packed.path, program, name)
    verify(Packed(path, found.weights_key, found.spans))


@settings(max_examples=25)
@given(programs.cases())
def test_any_program_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[LoweredModel, Any]
) -> None:
    model, plan = case
    here = tmp_path_factory.mktemp("b")
    model = with_bytes(model, here)
    packed = pack_weights(model, here)
    program = build_program(plan, model, packed, renderer=programs.renderer)
    write_bundle(program, packed, here / "m.fmb")
    found, path = read_bundle(here / "m.fmb")
    moved = {n: replace(s, offset=program.spans[n].offset) for n, s in found.spans.items()}
    assert replace(found, spans=moved) == program
    verify(Packed(path, "", found.spans))


# --- damage --------------------------------------------------------------------------------


def regions(data: bytes, program: Program) -> dict[str, tuple[int, int]]:
    """Ranges of bytes, by what they are."""
    fields = container._FIELDS.unpack_from(data)
    header_end = fields[3] + fields[4]
    found = {
        "preamble fields": (0, container._FIELDS.size),
        "preamble padding": (container._FIELDS.size, 4088),
        "preamble checksum": (4088, 4096),
        "header": (4096, header_end),
    }
    for name, span in program.spans.items():
        found[f"data of {name}"] = (span.offset, span.offset + span.bytes)
    return found


def test_a_flipped_bit_is_found_in_every_region(
    built: tuple[Program, Packed], folder: Path
) -> None:
    path = folder / "m.fmb"
    write_bundle(*built, path)
    program, _ = read_bundle(path)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    for name, (start, stop) in regions(good, program).items():
        places = {start, stop - 1, *(int(at) for at in rng.integers(start, stop, 8))}
        for at in sorted(places):
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            if name.startswith("data"):
                found, _ = read_bundle(path)
                with pytest.raises(CacheCorrupt):
                    verify(Packed(path, "", found.spans))
            else:
                with pytest.raises(BundleError):
                    read_bundle(path)


@pytest.mark.parametrize("cut", [0, 1, 8, 100, 4095, 4096, 5000, 8192, 100_000, -1])
def test_a_truncated_bundle_is_refused(
    built: tuple[Program, Packed], folder: Path, cut: int
) -> None:
    path = folder / "m.fmb"
    write_bundle(*built, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BundleError):
        read_bundle(path)


def test_a_longer_file_is_refused(built: tuple[Program, Packed], folder: Path) -> None:
    path = folder / "m.fmb"
    write_bundle(*built, path)
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="truncated or extended"):
        read_bundle(path)


def forge(path: Path, header: bytes, plain_bytes: int, **fields: Any) -> None:
    """A bundle with right checksums around a header of the attacker's choice."""
    data_offset = container.align(4096 + len(header))
    places = {
        "header_offset": 4096,
        "data_offset": data_offset,
        "data_bytes": 0,
        "file_bytes": data_offset,
        **fields,
    }
    version = places.pop("version", codec.VERSION)
    preamble = encode_preamble(codec.MAGIC, version, header, plain_bytes, **places)
    path.write_bytes((preamble + header).ljust(data_offset, b"\0"))


def test_a_header_that_expands_without_end_is_refused(folder: Path) -> None:
    bomb = zlib.compress(b"[" * 50_000_000, 9)
    for stated in (100, 50_000_000, 2**40):
        forge(folder / "m.fmb", bomb, stated)
        with pytest.raises(BundleError):
            read_bundle(folder / "m.fmb")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 1}, "format version 1, this release reads 2"),
        ({"data_offset": 2**62}, "outside the file"),
        ({"data_offset": 4097}, "outside the file"),
        ({"data_bytes": 2**63}, "outside the file"),
        ({"data_offset": 0}, "outside the file"),
        ({"header_offset": 0}, "outside the file"),
        ({"header_offset": 2**63}, "outside the file"),
        ({"file_bytes": 2**63}, "truncated or extended"),
    ],
)
def test_forged_places_are_refused(folder: Path, fields: dict[str, int], message: str) -> None:
    header, plain_bytes = encode_header({})
    forge(folder / "m.fmb", header, plain_bytes, **fields)
    with pytest.raises(BundleError, match=message):
        read_bundle(folder / "m.fmb")


def damaged(plain: dict[str, Any], how: str) -> Any:
    if how == "list":
        return [plain]
    if how == "missing":
        return {key: plain[key] for key in plain if key != "memory"}
    if how == "unknown":
        return {**plain, "extra": 1}
    if how == "type":
        return {**plain, "budget_bytes": "much"}
    span = dict(plain["spans"]["w1"])
    span["offset"] = {"span far": 2**62, "span odd": 7, "span below": -4096}.get(how, 0)
    if how == "span long":
        span["bytes"] = 2**62
    if how == "dtype":
        plain["compute"][0]["view"]["dtype"] = "V99999999999"
    if how == "unsound":
        plain["compute"] = plain["compute"][1:]
    return {**plain, "spans": {**plain["spans"], "w1": span}}


@pytest.mark.parametrize(
    "how",
    [
        "list",
        "missing",
        "unknown",
        "type",
        "span far",
        "span odd",
        "span below",
        "span long",
        "dtype",
        "unsound",
    ],
)
def test_a_forged_header_is_refused(built: tuple[Program, Packed], folder: Path, how: str) -> None:
    program, _ = built
    places, data_bytes = codec._places(program.spans)
    plain = to_plain(replace(program, spans=places))
    for header, accepted in ((plain, True), (damaged(deepcopy(plain), how), False)):
        data, plain_bytes = encode_header(header)
        offset = container.align(4096 + len(data))
        end = offset + data_bytes
        forge(folder / "m.fmb", data, plain_bytes, data_bytes=data_bytes, file_bytes=end)
        os.truncate(folder / "m.fmb", end)
        if accepted:
            read_bundle(folder / "m.fmb")
        else:
            with pytest.raises(BundleError):
                read_bundle(folder / "m.fmb")


def test_what_is_no_bundle_is_said_so(folder: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        read_bundle(folder / "none.fmb")
    (folder / "text.fmb").write_text("hello")
    with pytest.raises(BundleError, match="magic"):
        read_bundle(folder / "text.fmb")
    with pytest.raises(FlashMemError, match="Is a directory"):
        read_bundle(folder)


# --- writing -------------------------------------------------------------------------------


def test_only_a_bundle_is_written_over(built: tuple[Program, Packed], folder: Path) -> None:
    program, packed = built
    path = folder / "m.fmb"
    write_bundle(program, packed, path)
    write_bundle(replace(program, model="other"), packed, path)
    assert read_bundle(path)[0].model == "other"
    path.write_text("a thesis")
    with pytest.raises(BundleError, match="is not a bundle; it is left alone"):
        write_bundle(program, packed, path)
    assert path.read_text() == "a thesis"
    with pytest.raises(BundleError, match="is a folder"):
        write_bundle(program, packed, folder)


def test_a_damaged_cache_makes_no_bundle(built: tuple[Program, Packed], folder: Path) -> None:
    program, packed = built
    data = bytearray(packed.path.read_bytes())
    data[packed.spans["w1"].offset] ^= 1
    packed.path.write_bytes(data)
    with pytest.raises(CacheCorrupt, match="w1"):
        write_bundle(program, packed, folder / "m.fmb")
    assert not list(folder.glob("*m.fmb*"))
    other = replace(packed, key="other")
    with pytest.raises(BundleError, match="not those that the program was built for"):
        write_bundle(program, other, folder / "m.fmb")


def test_a_full_disk_makes_no_bundle_and_keeps_the_old_one(
    built: tuple[Program, Packed], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "m.fmb"
    write_bundle(*built, path)
    good = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="while writing the bundle"):
        write_bundle(*built, path)
    assert path.read_bytes() == good
    assert [one.name for one in folder.glob("*m.fmb*")] == ["m.fmb"]
    with pytest.raises(FlashMemError, match="No such file"):
        write_bundle(*built, folder / "none" / "m.fmb")
