"""Streamed programs in one buffer, as on GPUs that copy: here on whatever device there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyopencl as cl
import pytest
from onnx import helper, numpy_helper

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.graph import open_graph
from flashmem_lab.lower import Precision, Storage, lower
from flashmem_lab.plan import make_plan
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.program.program import Program
from flashmem_lab.runtime.opencl import OpenCLRuntime, copying, views
from flashmem_lab.runtime.opencl import runtime as module
from flashmem_lab.runtime.opencl.layout import Layout
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.units import Budget
from tests.device.conftest import Chain
from tests.device.test_random_graphs import Builder

Make = Callable[..., Chain]
Arrays = Mapping[str, np.ndarray]
RUNS = 3
ROOM = 2**16


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


def _program(path: Path, inputs: Arrays, storage: Storage, spec: DeviceSpec) -> Program:
    """A streamed program with some room beyond its plan's, which tiny objects at places need."""
    graph = open_graph(path, shapes={name: array.shape for name, array in inputs.items()})
    model = lower(graph, spec, storage=storage)
    plan = make_plan(model, spec, budget=Budget.parse("0%"), transport=Transport.COPY)
    program = build_program(plan, model, pack_weights(model, path.parent / "packed"))
    room = {
        name: getattr(program, name) + ROOM for name in ("predicted_peak_bytes", "budget_bytes")
    }
    return replace(program, **room)


def _outputs(program: Program, path: Path, inputs: Arrays, runtime: OpenCLRuntime) -> Arrays:
    packed = next((path.parent / "packed").glob("*"))
    return runtime.run(program, packed, inputs, repeat=RUNS).outputs


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("seed", [2, 4, 8, 14, 20, 26, 31, 37, 47, 53])
def test_a_random_graph_gives_the_same(
    seed: int,
    storage: Storage,
    device_id: str,
    runtime: OpenCLRuntime,
    gpu_like: OpenCLRuntime,
    tmp_path: Path,
) -> None:
    builder = Builder(seed)
    path = tmp_path / "m.onnx"
    onnx.save(builder.model(), path)
    program = _program(path, builder.inputs, storage, gpu_like.spec)
    assert _layout(program, device_id).places is not None
    found = _outputs(program, path, builder.inputs, gpu_like)
    expected = _outputs(program, path, builder.inputs, runtime)
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], name)


@pytest.mark.parametrize("indices", [True, False])
def test_outputs_that_end_out_of_order_are_read_before_a_weight_lies_there(
    device_id: str,
    gpu_like: OpenCLRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    indices: bool,
) -> None:
    """TopK writes both of its outputs at once; the one that is read last is the first to end.

    Its reads begin late here, as on a bus that has other things to do.
    """
    path, inputs = _topk(tmp_path, indices=indices)
    program = _program(path, inputs, Storage.IMAGE2D, gpu_like.spec)
    places = _layout(program, device_id).places
    assert places is not None
    expected = _outputs(program, path, inputs, gpu_like)
    late: list[cl.UserEvent] = []
    copy = cl.enqueue_copy

    def enqueue_copy(queue: cl.CommandQueue, to: Any, *args: Any, **options: Any) -> Any:
        read = isinstance(to, np.ndarray) and not options["is_blocking"]
        if read and to.nbytes == expected["V"].nbytes:
            late.append(cl.UserEvent(queue.context))
            options["wait_for"] = [late[-1]]
            done = cl.command_execution_status.COMPLETE
            Timer(0.05, late[-1].set_status, (done,)).start()
        return copy(queue, to, *args, **options)

    monkeypatch.setattr(views.cl, "enqueue_copy", enqueue_copy)
    found = _outputs(program, path, inputs, gpu_like)
    assert len(late) == RUNS
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], name)


def _topk(
    folder: Path, *, indices: bool, rows: int = 1000, columns: int = 256
) -> tuple[Path, Arrays]:
    """y = mean(x) W0 W1, and all of x sorted: its values are outputs, its indices before them."""
    rng = np.random.default_rng(0)
    weights = {
        "W0": rng.standard_normal((columns, 16 * columns), np.float32),
        "W1": rng.standard_normal((16 * columns, columns), np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("TopK", ["x", "k"], ["V", "I"]),
        helper.make_node("MatMul", ["m", "W0"], ["h"]),
        helper.make_node("MatMul", ["h", "W1"], ["y"]),
    ]
    floats, integers = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", floats, (rows, columns))],
        [
            *([helper.make_tensor_value_info("I", integers, (rows, columns))] if indices else []),
            helper.make_tensor_value_info("V", floats, (rows, columns)),
            helper.make_tensor_value_info("y", floats, (1, columns)),
        ],
        [
            numpy_helper.from_array(array, name)
            for name, array in {**weights, "k": np.array([columns])}.items()
        ],
    )
    path = folder / "m.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path, {"x": rng.standard_normal((rows, columns), np.float32)}
