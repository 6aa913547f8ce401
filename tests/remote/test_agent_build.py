"""Building the agent: which compiler is taken, what is kept, and what a link for phones is."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb import build
from flashmem_lab.runtime.adb.build import Target, build_agent, sources
from flashmem_lab.runtime.adb.elf import undefined_symbols
from flashmem_lab.runtime.adb.link import local_abi

PHONE = Target("arm64-v8a", android=True)
_LOADER, _TLS, _LOAD = 3, 7, 1  # types of program headers


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLASHMEM_AGENT", "ANDROID_NDK_HOME", "CC"):
        monkeypatch.delenv(name, raising=False)


def compiler(path: Path, says: str = "", code: int = 0) -> Path:
    """Something that takes a compiler's arguments, keeps them, and writes its output file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\necho "$@" >>"{path}.args"\necho "{says}" >&2\n'
        'for word; do [ "$last" = -o ] && echo built >"$word"; last=$word; done\n'
        f"exit {code}\n"
    )
    path.chmod(0o755)
    return path


def arguments(path: Path) -> list[str]:
    return Path(f"{path}.args").read_text().splitlines()


def test_a_ready_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = tmp_path / "mine"
    monkeypatch.setenv("FLASHMEM_AGENT", str(ready))
    with pytest.raises(DeviceError, match="FLASHMEM_AGENT"):
        build_agent(PHONE, tmp_path)
    ready.touch()
    assert build_agent(PHONE, tmp_path) == ready


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cc = compiler(tmp_path / "cc")
    monkeypatch.setenv("CC", f"{cc} --fast")
    built = build_agent(Target(local_abi()), tmp_path / "cache")
    assert build_agent(Target(local_abi()), tmp_path / "cache") == built
    assert built.read_text() == "built\n"
    (line,) = arguments(cc)
    assert line.startswith("--fast ")
    assert all(str(path) in line for path in sources())


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cc = compiler(tmp_path / "cc", says="main.c: error: no", code=1)
    monkeypatch.setenv("CC", str(cc))
    with pytest.raises(DeviceError, match=r"refused the agent:\n  main\.c: error: no"):
        build_agent(Target(local_abi()), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob(build.NAME)), "nothing half-built is kept"


def test_an_ndk_is_taken_for_phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match="has no aarch64 compiler"):
        build_agent(PHONE, tmp_path / "cache")
    tools = tmp_path / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    clang = compiler(tools / "aarch64-linux-android26-clang")
    built = build_agent(PHONE, tmp_path / "cache")
    assert built.read_text() == "built\n"
    words = arguments(clang)[0].split()
    assert "-pie" in words
    assert "-lpthread" not in words, "an NDK has no such library"


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError) as caught:
        build_agent(PHONE, tmp_path)
    assert "flashmem-lab[adb]" in caught.value.hint
    assert "ANDROID_NDK_HOME" in caught.value.hint


def test_other_machines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="armeabi-v7a"):
        build_agent(Target("armeabi-v7a", android=True), tmp_path)


def program_headers(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, offset, size in the file and alignment of each."""
    start, size, count = (
        struct.unpack_from("<Q", data, 32)[0],
        *struct.unpack_from("<HH", data, 54),
    )
    for at in range(start, start + size * count, size):
        kind, _, offset, _, _, stored, _, alignment = struct.unpack_from("<IIQQQQQQ", data, at)
        yield kind, offset, stored, alignment


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="needs flashmem-lab[adb], which has ziglang"
)
@pytest.mark.parametrize(("abi", "machine"), [("arm64-v8a", 183), ("x86_64", 62)])
def test_a_link_for_phones_without_an_ndk(abi: str, machine: int, tmp_path: Path) -> None:
    """As far as a file tells: bionic's loader, its libraries, large pages, no thread-local data."""
    data = build_agent(Target(abi, android=True), tmp_path).read_bytes()
    assert struct.unpack_from("<HH", data, 16) == (3, machine)  # a position-independent program
    headers = {kind: (offset, size) for kind, offset, size, _ in program_headers(data)}
    offset, size = headers[_LOADER]
    assert data[offset : offset + size] == b"/system/bin/linker64\0"
    assert _TLS not in headers
    pages = [alignment for kind, _, _, alignment in program_headers(data) if kind == _LOAD]
    assert min(pages) >= 16384
    for library in (b"libc.so\0", b"libdl.so\0"):
        assert library in data


def test_what_an_object_file_wants(tmp_path: Path) -> None:
    """Of an ordinary one by this machine's compiler."""
    source, compiled = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text("int other(int); int mine(int x) { return other(x); }\n")
    build._run(["cc", "-c", str(source), "-o", str(compiled)])
    assert undefined_symbols([compiled]) - {"_GLOBAL_OFFSET_TABLE_"} == {"other"}
    with pytest.raises(ValueError, match=r"a\.c"):
        undefined_symbols([source])
