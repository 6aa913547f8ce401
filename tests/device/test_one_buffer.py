"""Streamed programs in one buffer, as on GPUs that copy: here on whatever device there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.program.program import Program
from flashmem_lab.runtime.opencl import OpenCLRuntime, copying
from flashmem_lab.runtime.opencl import runtime as module
from flashmem_lab.runtime.opencl.layout import Layout
from flashmem_lab.runtime.opencl.query import find
from tests.device.conftest import Chain
from tests.device.test_random_graphs import Builder
from tests.pipeline import run_model

Make = Callable[..., Chain]
RUNS = 3


@pytest.fixture
def gpu_like(device_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenCLRuntime]:
    """A runtime that tells kernels where operands begin and does not use memory of the host."""
    monkeypatch.setattr(module, "wants_places", lambda device: True)
    monkeypatch.setattr(module, "works_in_place", lambda context, queue: False)
    with OpenCLRuntime(device_id) as opened:
        yield opened


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every buffer and image that is created, by type."""
    found: list[str] = []
    image, buffer = cl.create_image, cl.Buffer.__init__

    def create_image(*args: Any, **options: Any) -> cl.Image:
        found.append("line" if options.get("buffer") is not None else "image")
        return image(*args, **options)

    def create_buffer(self: cl.Buffer, *args: Any, **options: Any) -> None:
        found.append("buffer")
        buffer(self, *args, **options)

    monkeypatch.setattr(cl, "create_image", create_image)
    monkeypatch.setattr(cl.Buffer, "__init__", create_buffer)
    return found


def _layout(program: Program, device_id: str) -> Layout:
    return Layout.of(program, find(device_id), tells=True)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("preloaded", [(), (1, 4)])
@pytest.mark.parametrize("ahead", [0, 2])
def test_images_are_rows_of_a_line_of_texels(
    gpu_like: OpenCLRuntime,
    make_chain: Make,
    device_id: str,
    precision: Precision,
    preloaded: tuple[int, ...],
    ahead: int,
) -> None:
    chain = make_chain(
        layers=7,
        transport=Transport.COPY,
        preloaded=preloaded,
        precision=precision,
        ahead=ahead,
        storage=Storage.IMAGE2D,
    )
    places = _layout(chain.program, device_id).places
    assert places is not None
    assert len(places.behind) >= 2, "weights follow each other at one place"
    result = gpu_like.run(chain.program, chain.packed.path, chain.inputs, repeat=RUNS)
    close = 1e-5 if precision is Precision.FP32 else 4e-3
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=close, atol=close)
    assert result.peak_bytes["total"] == chain.program.predicted_peak_bytes
    held = int(result.trace.notes["held_peak_bytes"])
    assert held == places.bytes + chain.program.staging_bytes


def test_nothing_is_made_for_a_weight(
    gpu_like: OpenCLRuntime, make_chain: Make, made: list[str]
) -> None:
    counts = []
    for layers in (4, 9):
        chain = make_chain(layers=layers, transport=Transport.COPY, storage=Storage.IMAGE2D)
        made.clear()
        gpu_like.run(chain.program, chain.packed.path, chain.inputs, repeat=RUNS)
        counts.append((made.count("buffer"), made.count("line")))
    assert counts[0] == counts[1]
    assert counts[0][1] >= 1


def test_a_copy_waits_for_the_kernels_that_use_its_place(
    gpu_like: OpenCLRuntime,
    make_chain: Make,
    device_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[int] = []
    copy = cl.enqueue_copy

    def enqueue_copy(*args: Any, **options: Any) -> Any:
        waited.append(len(options.get("wait_for") or ()))
        return copy(*args, **options)

    patched = SimpleNamespace(Image=cl.Image, enqueue_copy=enqueue_copy)
    monkeypatch.setattr(copying, "cl", patched)  # inputs and outputs are copied elsewhere
    chain = make_chain(layers=6, transport=Transport.COPY, height=64, storage=Storage.IMAGE2D)
    places = _layout(chain.program, device_id).places
    assert places is not None
    gpu_like.run(chain.program, chain.packed.path, chain.inputs)
    behind = [upload.weight in places.behind for upload in chain.program.transfer]
    assert [bool(events) for events in waited] == behind
    assert any(behind)
    assert not all(behind)


@pytest.mark.parametrize("change", ["map", "pinned", "crowded"])
def test_other_programs_keep_objects_of_their_own(
    make_chain: Make, device_id: str, change: str
) -> None:
    transport = Transport.MAP if change == "map" else Transport.COPY
    preloaded = range(4) if change == "pinned" else ()
    program = make_chain(layers=4, transport=transport, preloaded=preloaded).program
    if change == "crowded":
        program = replace(program, predicted_peak_bytes=program.staging_bytes + 64)
    layout = _layout(program, device_id)
    assert layout.places is None
    assert all("image1d_buffer_t" not in kernel.source for kernel in layout.sources)


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("seed", range(2, 60, 6))
def test_a_random_graph_gives_the_same(
    seed: int, storage: Storage, device_id: str, gpu_like: OpenCLRuntime, tmp_path: Path
) -> None:
    builder = Builder(seed)
    path = tmp_path / "m.onnx"
    onnx.save(builder.model(), path)
    copies = replace(gpu_like.spec, transport=Transport.COPY)
    found = run_model(path, builder.inputs, gpu_like, device=copies, storage=storage)[1].outputs
    with OpenCLRuntime(device_id) as plain:
        expected = run_model(path, builder.inputs, plain, device=copies, storage=storage)[1].outputs
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], name)
