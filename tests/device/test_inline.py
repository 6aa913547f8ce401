"""Kernels that move weights while they compute: every unit, every shape, and real models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import Storage
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program.carry import UNITS, Entry, carrying
from flashmem_lab.program.program import KernelSource, Upload
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.query import find

_KERNEL = KernelSource(
    "twice",
    "__kernel void twice(__global float* x, const int n) {\n"
    "  const int i = get_global_id(0) + get_global_size(0) * get_global_id(1);\n"
    "  if (i >= n) return;\n"
    "  x[i] *= 2;\n"
    "}\n",
)


@pytest.fixture(scope="module")
def queue(device_id: str) -> cl.CommandQueue:
    context = cl.Context([find(device_id)])
    queue = cl.CommandQueue(context)
    # pyopencl keeps what it was asked for; Intel's own queues do not keep their context alive.
    assert queue.context == context
    return queue


def _entry(unit: str, first: int, count: int) -> Entry:
    return Entry(Upload(0, "w", 0, 0, 1, 1, False, ()), unit, first, count)


@pytest.mark.parametrize("unit", ["words", "half words", "bytes"])
def test_elements_land_where_they_belong(queue: cl.CommandQueue, unit: str) -> None:
    """Two chunks of a buffer, one after the other, and what the kernel itself computes."""
    size = UNITS[unit].bytes
    weight = np.random.default_rng(1).integers(0, 256, 1003 * size, np.uint8)
    cut = 400 * size
    carried = [_entry(unit, 0, 400), _entry(unit, 400, 603)]
    target = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, weight.nbytes)
    chunks = [_slot(queue, weight[:cut]), _slot(queue, weight[cut:])]
    x = _launch(queue, carried, [(chunk, target) for chunk in chunks])
    found = np.empty_like(weight)
    cl.enqueue_copy(queue, found, target)
    np.testing.assert_array_equal(found, weight)
    np.testing.assert_array_equal(x, 2 * np.arange(777, dtype=np.float32))


@pytest.mark.parametrize(
    ("unit", "dtype", "channel"),
    [
        ("float texels", np.float32, cl.channel_type.FLOAT),
        ("half texels", np.float16, cl.channel_type.HALF_FLOAT),
    ],
)
def test_texels_land_where_they_belong(
    queue: cl.CommandQueue, unit: str, dtype: type, channel: int
) -> None:
    width, height, cut = 37, 29, 11
    weight = np.random.default_rng(2).standard_normal((height, width, 4)).astype(dtype)
    pixel = cl.ImageFormat(cl.channel_order.RGBA, channel)
    target = cl.create_image(queue.context, cl.mem_flags.READ_WRITE, pixel, shape=(width, height))
    carried = [_entry(unit, 0, cut * width), _entry(unit, cut * width, (height - cut) * width)]
    chunks = [_slot(queue, weight[:cut]), _slot(queue, weight[cut:])]
    _launch(queue, carried, [(chunk, target) for chunk in chunks])
    found = np.empty_like(weight)
    cl.enqueue_copy(queue, found, target, origin=(0, 0), region=(width, height))
    np.testing.assert_array_equal(found, weight)


def _slot(queue: cl.CommandQueue, chunk: np.ndarray) -> cl.Buffer:
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
    return cl.Buffer(queue.context, flags, hostbuf=np.ascontiguousarray(chunk))


def _launch(queue: cl.CommandQueue, carried: list[Entry], memory: list[tuple[Any, Any]]) -> Any:
    """Runs the rewritten kernel on work-items that are no divisor of anything; returns x."""
    x = np.arange(777, dtype=np.float32)
    held = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=x)
    source = carrying(_KERNEL, carried)
    (kernel,) = Kernels(queue.context, queue.device).build([source])
    arguments: list[Any] = [held, np.int32(len(x))]
    for at in range(CARRIED):
        entry = carried[min(at, len(carried) - 1)]
        count = entry.count if at < len(carried) else 0
        arguments += [*memory[min(at, len(memory) - 1)], np.int32(entry.first), np.int32(count)]
    kernel.set_args(*arguments)
    cl.enqueue_nd_range_kernel(queue, kernel, (13, 61), (13, 1))
    cl.enqueue_copy(queue, x, held)
    return x


@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
def test_launches_say_what_they_carried(
    runtime: OpenCLRuntime, make_chain: Callable[..., Any], storage: Storage
) -> None:
    """All bytes of a run are carried by layers or moved by kernels of their own, never both."""
    chain = make_chain(transport=Transport.INLINE, storage=storage, preloaded=[1])
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=2)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    size = chain.model.weights["w0"].device_bytes
    for run, moved in ((0, 4 * size), (1, 3 * size)):
        events = [
            e
            for e in result.trace.timeline.events
            if e.run == run and e.lane is Lane.COMPUTE and e.kind in ("launch", "upload")
        ]
        assert sum(event.bytes for event in events) == moved
        assert any(event.bytes for event in events if event.kind == "launch")
