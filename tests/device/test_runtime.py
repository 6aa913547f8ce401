"""The OpenCL runtime against programs whose results and memory are known."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import (
    CacheCorrupt,
    DeviceError,
    FlashMemError,
    InputError,
    OutOfBudget,
    PlanError,
    UsageError,
)
from flashmem_lab.lower.layer import Precision, Storage
from flashmem_lab.plan.timeline import Lane, Pool
from flashmem_lab.program.program import Alloc, KernelSource, Launch, Program
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.opencl import OpenCLRuntime, list_devices, open_runtime, working

TRANSPORTS = tuple(Transport)
Make = Callable[..., Any]


def held_by_order(program: Program, *, first: bool) -> list[tuple[Pool, int]]:
    """(pool, bytes in it) after each memory command: what every run must show."""
    held = {Pool.TEXTURE: 0, Pool.BUFFER: 0}
    if not first:
        kept = [c for c in program.memory if isinstance(c, Alloc) and c.once]
        held[Pool.TEXTURE] = sum(program.objects[c.object].bytes for c in kept)
    curve = []
    if first and program.staging_bytes:
        curve.append((Pool.STAGING, program.staging_bytes))
    for command in program.memory:
        if isinstance(command, Alloc) and command.once and not first:
            continue
        item = program.objects[command.object]
        held[item.pool] += item.bytes if isinstance(command, Alloc) else -item.bytes
        curve.append((item.pool, held[item.pool]))
    return curve


def measured(result: RunResult, run: int) -> list[tuple[Pool, int]]:
    samples = result.trace.timeline.samples
    return [(s.pool, s.bytes) for s in samples if s.run == run and s.pool is not Pool.HOST]


def assert_nothing_left(runtime: OpenCLRuntime, chain: Any) -> None:
    """No thread of the runtime is alive, and the same runtime still works."""
    assert not [t.name for t in threading.enumerate() if t.name.startswith("flashmem-")]
    result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)


# --- results and memory --------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("width", [96, 37])
def test_streams_weights(
    runtime: OpenCLRuntime, make_chain: Make, transport: Transport, storage: Storage, width: int
) -> None:
    chain = make_chain(transport=transport, storage=storage, width=width, preloaded=[2])
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["total"] == chain.program.predicted_peak_bytes
    for run in range(3):
        assert measured(result, run) == held_by_order(chain.program, first=run == 0)
    assert len(result.warm_ms) == 2


def test_half_precision_images(runtime: OpenCLRuntime, make_chain: Make) -> None:
    outputs = []
    for transport in TRANSPORTS:
        chain = make_chain(transport=transport, precision=Precision.FP16)
        result = runtime.run(chain.program, chain.packed.path, chain.inputs)
        outputs.append(result.outputs["y"])
        # chain.y is computed from the halves themselves, so only float32 rounding remains.
        np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
        assert result.peak_bytes["texture"] == 2 * chain.model.weights["w0"].device_bytes
    assert all(np.array_equal(outputs[0], other) for other in outputs[1:])


def test_one_slot_and_one_layer(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(layers=1, transport=Transport.COPY)
    program = replace(
        chain.program,
        staging_bytes=chain.program.slot_bytes,
        predicted_peak_bytes=chain.program.predicted_peak_bytes - chain.program.slot_bytes,
    )
    result = runtime.run(program, chain.packed.path, chain.inputs)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["staging"] == program.slot_bytes


def test_preloaded_weights_move_once(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(preloaded=[0, 1, 2, 3], barrier=True)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=2)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    events = result.trace.timeline.events
    assert sum(e.bytes for e in events if e.kind == "read") == 4 * 700 * 96 * 16
    assert not [e for e in events if e.run == 1 and e.lane is not Lane.COMPUTE]
    # The barrier: nothing computes before all is there; a wait for it is the first layer's.
    uploads = [e.end_ns for e in events if e.kind == "upload"]
    launches = [e.start_ns for e in events if e.kind == "launch" and e.run == 0]
    assert max(uploads) <= min(launches)
    assert {e.layer for e in events if e.kind == "stall"} <= {0}


def test_trace_is_in_order_and_complete(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(transport=Transport.COPY)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    events = result.trace.timeline.events
    assert [e.layer for e in events if e.kind == "launch"] == [0, 1, 2, 3]
    assert all(0 <= e.start_ns <= e.end_ns <= result.first_run_ms * 1e6 for e in events)
    moved = {lane: sum(e.bytes for e in events if e.lane is lane) for lane in Lane}
    assert moved[Lane.DISK] == moved[Lane.TRANSFER] == 4 * 700 * 96 * 16
    launches = {e.layer: e for e in events if e.kind == "launch"}
    for upload in (e for e in events if e.kind == "upload"):
        assert upload.end_ns <= launches[upload.layer].start_ns
    stalls = sum(e.end_ns - e.start_ns for e in events if e.kind == "stall")
    assert result.stall_ms == pytest.approx(stalls / 1e6)
    host = [s.bytes for s in result.trace.timeline.samples if s.pool is Pool.HOST]
    assert 0 < max(host, default=1) <= result.peak_bytes["host"]


def test_average_lies_below_the_peak(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    assert 0 < result.average_bytes < result.peak_bytes["total"]


def test_progress_reaches_the_last_layer(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    told: list[tuple[str, int, int]] = []
    runtime.run(
        chain.program, chain.packed.path, chain.inputs, progress=lambda *now: told.append(now)
    )
    assert [now for now in told if now[0] == "run 1 of 1"][-1] == ("run 1 of 1", 4, 4)


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_budget_is_enforced(runtime: OpenCLRuntime, make_chain: Make, transport: Transport) -> None:
    chain = make_chain(transport=transport)
    tight = replace(chain.program, budget_bytes=chain.program.budget_bytes - 1)
    with pytest.raises(OutOfBudget, match="would break the budget"):
        runtime.run(tight, chain.packed.path, chain.inputs)
    assert_nothing_left(runtime, chain)


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("weight", ["w0", "w3"])
def test_corrupt_block(
    runtime: OpenCLRuntime, make_chain: Make, transport: Transport, storage: Storage, weight: str
) -> None:
    chain = make_chain(transport=transport, storage=storage)
    span = chain.packed.spans[weight]
    good = chain.packed.path.read_bytes()
    bad = bytearray(good)
    bad[span.offset + span.bytes // 2] ^= 1
    chain.packed.path.write_bytes(bad)
    with pytest.raises(CacheCorrupt) as caught:
        runtime.run(chain.program, chain.packed.path, chain.inputs)
    assert caught.value.weight == weight
    chain.packed.path.write_bytes(good)
    assert_nothing_left(runtime, chain)


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
def test_truncated_file(runtime: OpenCLRuntime, make_chain: Make, storage: Storage) -> None:
    chain = make_chain(storage=storage)
    good = chain.packed.path.read_bytes()
    chain.packed.path.write_bytes(good[: chain.packed.spans["w2"].offset + 5])
    with pytest.raises(CacheCorrupt, match="'w2'"):
        runtime.run(chain.program, chain.packed.path, chain.inputs)
    chain.packed.path.write_bytes(good)
    assert_nothing_left(runtime, chain)


def test_missing_file(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    with pytest.raises(FlashMemError, match="No such file"):
        runtime.run(chain.program, chain.packed.path.with_name("gone"), chain.inputs)


def test_interrupt_on_the_main_thread(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(transport=Transport.COPY)

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("run") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime.run(chain.program, chain.packed.path, chain.inputs, progress=interrupt)
    assert_nothing_left(runtime, chain)


def test_kernel_that_does_not_compile(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    broken = KernelSource("fma4", "__kernel void fma4(__global float* x) { x[0] = nonsense; }")
    with pytest.raises(DeviceError, match=r"(?s)refused kernel 'fma4'.*nonsense"):
        runtime.run(replace(chain.program, kernels=(broken,)), chain.packed.path, chain.inputs)


def test_object_beyond_the_device(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(layers=1)
    huge = replace(chain.program.objects["b0"], bytes=2**50)
    program = replace(
        chain.program, objects={**chain.program.objects, "b0": huge}, budget_bytes=2**60
    )
    # Some drivers refuse the object, others its first use; or the system has no memory for it.
    refusals = r"creating buffer 'b0'|ALLOCATION_FAILURE|no room for \d+ bytes of activations"
    with pytest.raises(DeviceError, match=refusals) as caught:
        runtime.run(program, chain.packed.path, chain.inputs)
    assert caught.value.hint
    assert_nothing_left(runtime, chain)


def test_lanes_that_wait_for_each_other_end(runtime: OpenCLRuntime, make_chain: Make) -> None:
    """Such a program never passes the checker; the runtime must still not hang on it."""
    chain = make_chain()
    backwards = replace(chain.program, disk=chain.program.disk[::-1])
    with pytest.raises(PlanError, match="waits for one that waits"):
        runtime.run(backwards, chain.packed.path, chain.inputs)
    unread = replace(chain.program, disk=(), transfer=())
    with pytest.raises(PlanError, match="waits for one that waits"):
        runtime.run(unread, chain.packed.path, chain.inputs)
    assert_nothing_left(runtime, chain)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((3, 3), np.float32)}, r"shape \[3, 3\], not \[700, 384\]"),
        ({"x": np.zeros((700, 384))}, "dtype float64, not float32"),
        ({"x": np.zeros((700, 384), np.int32)}, "dtype int32, not float32"),
        ({"x": np.zeros((700, 384), np.float32), "z": np.zeros(1)}, "no input 'z'"),
    ],
)
def test_wrong_inputs(
    runtime: OpenCLRuntime, make_chain: Make, change: dict[str, np.ndarray], says: str
) -> None:
    chain = make_chain()
    with pytest.raises(InputError, match=says):
        runtime.run(chain.program, chain.packed.path, change)


def test_inputs_that_widen(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    x = chain.x.astype(np.float16)
    narrow = runtime.run(chain.program, chain.packed.path, {"x": x})
    wide = runtime.run(chain.program, chain.packed.path, {"x": x.astype(np.float32)})
    assert np.array_equal(narrow.outputs["y"], wide.outputs["y"])


def test_what_the_runtime_does_not_do(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain()
    with pytest.raises(UsageError, match="at least once"):
        runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=0)


# --- devices -------------------------------------------------------------------------------


def test_devices_are_described(device_id: str) -> None:
    spec = next(spec for spec in list_devices() if spec.id == device_id)
    assert spec.limits.image_width >= 2048
    assert spec.limits.max_alloc >= 2**27
    assert spec.transport is (Transport.MAP if spec.kind == "cpu" else Transport.COPY)
    assert working(device_id) == ""


@pytest.mark.parametrize("wrong", ["ocl:99", "ocl:-1", "gpu", "ocl:"])
def test_unknown_device(wrong: str) -> None:
    with pytest.raises(UsageError, match="there is no OpenCL device"):
        open_runtime(wrong)
    assert "there is no OpenCL device" in working(wrong)


def test_launches_overlap_nothing_of_their_own_lane(
    runtime: OpenCLRuntime, make_chain: Make
) -> None:
    chain = make_chain(layers=6)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    lane = [e for e in result.trace.timeline.events if e.kind == "launch"]
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(lane))
    assert len(lane) == sum(isinstance(c, Launch) for c in chain.program.compute)
