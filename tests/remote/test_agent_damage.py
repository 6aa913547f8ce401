"""Files that are damaged, or made to harm: the agent refuses them in words and never falls over."""

from __future__ import annotations

import copy
import json
import random
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashmem_lab.device import simulated_devices
from flashmem_lab.device.spec import Transport
from flashmem_lab.program import write_bundle
from flashmem_lab.program.codec import PROGRAM_MAGIC, VERSION, write_program
from flashmem_lab.program.container import PREAMBLE_BYTES, align, encode_preamble
from flashmem_lab.runtime.adb.build import sources
from flashmem_lab.serial import to_plain
from tests.remote.programs import MODELS, Planned, plan_model

_SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
_ODD = [None, True, -1, 0, 1, 3, 2**31, 2**40, 2**63, 2**64, -(2**63), 1.5, 1e300, "", "x", [], {}]


@pytest.fixture(scope="module")
def checked_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent that ends with an error at the first bad access or undefined operation.

    Where the compiler has no sanitizers, at those that the system ends it for.
    """
    built = tmp_path_factory.mktemp("sanitized") / "agent"
    done = _compiled(built, *_SANITIZED)
    if done.returncode and "asan" in done.stderr:
        done = _compiled(built)
    assert done.returncode == 0, done.stderr
    return built


def _compiled(built: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    files = [str(path) for path in sources()]
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", *flags, *files, "-ldl", "-lpthread", "-o", built]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=[Transport.MAP, Transport.COPY, Transport.INLINE])
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    device = simulated_devices()["sim:adreno750"]
    folder = tmp_path_factory.mktemp("models")
    return plan_model(*MODELS["sentence"](folder), device, budget="min", transport=request.param)


@pytest.fixture(scope="module")
def bundle(planned: Planned) -> bytes:
    path = planned.packed.path.with_suffix(".fmb")
    write_bundle(planned.program, planned.packed, path)
    return path.read_bytes()


def check(agent: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """What the agent says of a file, sanitizers and all."""
    done = subprocess.run([agent, "check", path], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "Sanitizer" not in done.stderr, done.stderr
    assert "runtime error" not in done.stderr, done.stderr
    assert done.stderr if done.returncode else done.stdout
    return done


def save(header: Any, path: Path, *, plain: bytes | None = None) -> None:
    """A program file that is sound but for its header."""
    plain = json.dumps(header).encode() if plain is None else plain
    packed = zlib.compress(plain)
    end = align(PREAMBLE_BYTES + len(packed))
    preamble = encode_preamble(
        PROGRAM_MAGIC,
        VERSION,
        packed,
        len(plain),
        header_offset=PREAMBLE_BYTES,
        data_offset=end,
        data_bytes=0,
        file_bytes=end,
    )
    path.write_bytes((preamble + packed).ljust(end, b"\0"))


def test_sound_ones(checked_agent: Path, planned: Planned, bundle: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.fmb"
    path.write_bytes(bundle)
    assert "sound" in check(checked_agent, path).stdout
    write_program(planned.program, path)
    assert (
        f"at most {planned.program.predicted_peak_bytes} bytes" in check(checked_agent, path).stdout
    )


@pytest.mark.parametrize("size", [0, 7, 72, 4095, 4096, 5000, -4096, -1])
def test_truncated(checked_agent: Path, bundle: bytes, tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.fmb"
    path.write_bytes(bundle[:size])
    done = check(checked_agent, path)
    assert done.returncode == 1
    assert "truncated" in done.stderr


def test_bits_that_flipped(checked_agent: Path, bundle: bytes, tmp_path: Path) -> None:
    """Anywhere in preamble and header; the zeros between the parts mean nothing."""
    path = tmp_path / "m.fmb"
    header_bytes = struct.unpack_from("<Q", bundle, 24)[0]
    rng = random.Random(7)
    for _ in range(40):
        damaged = bytearray(bundle)
        at = rng.choice(
            [rng.randrange(72), rng.randrange(4096), 4096 + rng.randrange(header_bytes)]
        )
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert check(checked_agent, path).returncode == 1


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(data=st.data())
def test_headers_that_lie(
    data: st.DataObject, checked_agent: Path, planned: Planned, tmp_path: Path
) -> None:
    """Any value of a sound header replaced by another, and the checksums made right again."""
    header = to_plain(planned.program)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(header))))
        inner = header
        for key in path:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = copy.deepcopy(data.draw(st.sampled_from(_ODD)))
        else:  # of the same kind, so that it gets further
            other = data.draw(st.sampled_from(list(places(header))))
            found: Any = header
            for key in other:
                found = found[key]
            alike = type(found) is type(inner[last]) and not isinstance(found, dict | list)
            inner[last] = found if alike else copy.deepcopy(inner[last])
    save(header, tmp_path / "m.fmp")
    check(checked_agent, tmp_path / "m.fmp")


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 40,
        b'"\\ud800"',
        b'"\\u0000"',
        b'"abc',
        b"1" * 80,
        b"-",
        b"nul",
        b'{"a":1,}',
        b"{} {}",
        b"[1,2",
        b"\xff\xfe",
        b"1e999",
    ],
)
def test_headers_that_are_no_json(checked_agent: Path, tmp_path: Path, plain: bytes) -> None:
    save(None, tmp_path / "m.fmp", plain=plain)
    done = check(checked_agent, tmp_path / "m.fmp")
    assert done.returncode == 1
    assert "header" in done.stderr


def test_streams_that_do_not_expand(checked_agent: Path, bundle: bytes, tmp_path: Path) -> None:
    """Noise under a sound checksum, as every kind of block; and sizes that are not the stated."""
    path = tmp_path / "m.fmp"
    rng = random.Random(3)
    for at in range(60):
        packed = bytearray(zlib.compress(b'{"a":[1,2,3]}' * 50, at % 10))
        for _ in range(rng.randrange(1, 4)):
            packed[rng.randrange(2, len(packed))] = rng.randrange(256)
        end = align(PREAMBLE_BYTES + len(packed))
        preamble = encode_preamble(
            PROGRAM_MAGIC,
            VERSION,
            bytes(packed),
            650 + at % 3 - 1,
            header_offset=PREAMBLE_BYTES,
            data_offset=end,
            data_bytes=0,
            file_bytes=end,
        )
        path.write_bytes((preamble + packed).ljust(end, b"\0"))
        assert check(checked_agent, path).returncode == 1


def test_checksums_are_those_of_xxhash(checked_agent: Path, tmp_path: Path) -> None:
    """Headers of every length class: a sound one gets as far as its JSON."""
    around = (1, 8, 16, 32, 64, 128, 240, 1024, 2048)  # zlib adds some, so each a few times
    for size in (at + more for at in around for more in range(-12, 2) if at + more > 0):
        noise = random.Random(size).randbytes(size)
        save(None, tmp_path / "m.fmp", plain=noise)
        assert "match its checksum" not in check(checked_agent, tmp_path / "m.fmp").stderr
    assert xxhash.xxh3_64_intdigest(b"") == 0x2D06800538D394C2


@pytest.mark.parametrize("said", [b"", b"nonsense that is no frame at all", b"OPEN" + b"\xff" * 12])
def test_a_host_that_talks_nonsense(agent: Path, said: bytes) -> None:
    done = subprocess.run(
        [agent, "serve"], input=said, capture_output=True, timeout=30, check=False
    )
    assert done.returncode in (0, 1, 4)
