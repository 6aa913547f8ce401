"""Builds the agent for a machine: from the sources in agent/, with whatever compiler is at hand."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flashmem_lab.errors import DeviceError, from_os_error
from flashmem_lab.runtime.adb.elf import undefined_symbols
from flashmem_lab.runtime.adb.link import local_abi

NAME = "flashmem-agent"
_SOURCES = Path(__file__).with_name("agent")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIE", "-Wall", "-Wextra")
_LIBRARIES = ("-ldl", "-lpthread")
_ARCHITECTURES = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}
_API = 26  # Android 8: nothing that the agent calls is younger than Android 7
_ZIG_API = 29  # the oldest that zig 0.17 takes; nothing of it is left in the file
_GLIBC = "2.28"  # of boards with Debian 10 or newer
_LINES = 6


@dataclass(frozen=True, slots=True)
class Target:
    """What the agent is built for.

    Attributes:
        abi: "arm64-v8a", "x86_64", ...
        android: bionic is its C library; else glibc.
    """

    abi: str
    android: bool = False


def build_agent(target: Target, cache: Path) -> Path:
    """The agent for a machine, built unless it was built before.

    $FLASHMEM_AGENT names one that is ready. For this machine the C compiler is used ($CC, cc, gcc
    or clang); for Android the NDK of $ANDROID_NDK_HOME; without these, and for other machines, the
    `ziglang` wheel (`pip install "flashmem-lab[adb]"`).

    Args:
        target: what it is to run on.
        cache: folder where agents are kept, by their sources; made if need be.

    Raises:
        DeviceError: there is no compiler for that machine, or it fails.
    """
    if given := os.environ.get("FLASHMEM_AGENT"):
        path = Path(given)
        if not path.is_file():
            raise DeviceError(f"there is no file {given}, which FLASHMEM_AGENT names")
        return path
    if target.abi not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise DeviceError(
            f"there is no agent for machines of the kind {target.abi!r}, only for {known}"
        )
    system = "android" if target.android else "linux"
    built = cache / f"{target.abi}-{system}-{_digest()}" / NAME
    if built.is_file():
        return built
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=built.parent) as folder:
            half = Path(folder) / NAME
            _build(target, half)
            half.replace(built)
    except OSError as error:
        raise from_os_error(error, "building the agent") from error
    return built


def sources() -> list[Path]:
    """The C files of the agent."""
    return sorted(_SOURCES.glob("*.c"))


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(Path(__file__).read_bytes())  # how they are built
    return digest.hexdigest()[:16]


def _build(target: Target, into: Path) -> None:
    architecture = _ARCHITECTURES[target.abi]
    if target.android:
        if ndk := _ndk_clang(architecture):
            # Threads are part of bionic's libc.
            _run([ndk, *_FLAGS, *_names(sources()), "-pie", "-ldl", "-o", str(into)])
        else:
            _link_android(architecture, into)
        return
    native = local_abi() == target.abi and sys.platform.startswith("linux")
    compiler = _native_compiler() if native else None
    if compiler is None:
        compiler = [*_zig(), "cc", "-target", f"{architecture}-linux-gnu.{_GLIBC}"]
    _run([*compiler, *_FLAGS, *_names(sources()), "-pie", *_LIBRARIES, "-o", str(into)])


def _native_compiler() -> list[str] | None:
    if given := os.environ.get("CC"):
        return shlex.split(given)
    found = next((one for one in ("cc", "gcc", "clang") if shutil.which(one)), None)
    return [found] if found else None


def _ndk_clang(architecture: str) -> str | None:
    home = os.environ.get("ANDROID_NDK_HOME")
    if not home:
        return None
    pattern = f"toolchains/llvm/prebuilt/*/bin/{architecture}-linux-android{_API}-clang"
    found = sorted(Path(home).glob(pattern))
    if not found:
        raise DeviceError(
            f"the NDK at {home} has no {architecture} compiler for API {_API}",
            hint="point ANDROID_NDK_HOME at an NDK of release 21 or newer, or unset it",
        )
    return str(found[-1])


def _zig() -> list[str]:
    if importlib.util.find_spec("ziglang") is None:
        raise DeviceError(
            "there is no compiler to build the agent for that machine with",
            hint='pip install "flashmem-lab[adb]", or point ANDROID_NDK_HOME at an Android NDK; '
            "for this machine itself any C compiler does",
        )
    return [sys.executable, "-m", "ziglang"]


def _link_android(architecture: str, into: Path) -> None:
    """A bionic executable without an NDK.

    Zig has no C library of Android. So: its headers are those of musl, which agree with bionic in
    all that the agent uses; libc.so and libdl.so are stand-ins that only name what the objects
    want, for the real ones are the phone's; and the start-up code is ours (agent/android). Links
    and looks right (readelf); nobody has run the result on a phone.
    """
    zig = [*_zig(), "cc", "-target", f"{architecture}-linux-android.{_ZIG_API}"]
    root = Path(importlib.util.find_spec("ziglang").submodule_search_locations[0])  # type: ignore[union-attr,index]
    includes = ["-nostdlibinc", "-D__errno_location=__errno"]
    kinds = (f"{architecture}-linux-musl", "generic-musl", f"{architecture}-linux-any")
    for kind in (*kinds, "any-linux-any"):
        includes += ["-isystem", str(root / "lib/libc/include" / kind)]
    flags = [*_FLAGS, "-fno-stack-protector", "-fno-sanitize=undefined"]
    with TemporaryDirectory(dir=into.parent) as made:
        folder = Path(made)
        objects = []
        for source in [*sources(), _SOURCES / "android" / "start.c"]:
            target = folder / f"{source.stem}.o"
            _run([*zig, *flags, *includes, "-c", str(source), "-o", str(target)])
            objects.append(target)
        stubs = _stubs(zig, objects, folder)
        _run(
            [
                *zig,
                "-nostdlib",
                "-s",
                "-pie",
                *_names(objects),
                *_names(stubs),
                "-Wl,--dynamic-linker=/system/bin/linker64",
                "-Wl,-z,max-page-size=16384,-z,common-page-size=16384",
                "-o",
                str(into),
            ]
        )


def _stubs(zig: Sequence[str], objects: Sequence[Path], folder: Path) -> list[Path]:
    """Libraries that name what `objects` want of the phone's libc.so and libdl.so."""
    wanted = undefined_symbols(objects)
    # Helpers of a compiler are in no phone's library; atomics that add are such, for one.
    assert not any(name.startswith(("__aarch64_", "__emutls_")) for name in wanted), wanted
    stubs = []
    for library in ("c", "dl"):
        names = sorted(n for n in wanted if n.startswith("dl") == (library == "dl"))
        code = folder / f"lib{library}.c"
        code.write_text("".join(_stub(name) for name in names))
        stub = folder / f"lib{library}.so"
        _run(
            [
                *zig,
                *("-w", "-fno-builtin", "-ffreestanding", "-nostdlib", "-shared"),
                f"-Wl,-soname,lib{library}.so",
                str(code),
                "-o",
                str(stub),
            ]
        )
        stubs.append(stub)
    return stubs


def _stub(name: str) -> str:
    data = name in ("stdin", "stdout", "stderr")
    return f"void *{name};\n" if data else f"void {name}(void) {{}}\n"


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]


def _run(argv: Sequence[str]) -> None:
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, check=False)
    except OSError as error:
        raise from_os_error(error, f"starting {argv[0]}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        said = "\n  ".join((lines or done.stderr.splitlines())[:_LINES])
        raise DeviceError(f"the compiler {argv[0]} refused the agent:\n  {said}")
