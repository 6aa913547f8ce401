"""Where outputs arrive: in later runs in pinned memory, which the user's arrays outlive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.runtime.opencl import landings, views
from flashmem_lab.runtime.opencl.runtime import OpenCLRuntime
from tests.device.conftest import Chain

Make = Callable[..., Chain]


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of the buffers that outputs arrive in, on a device that has pinned memory for them."""
    made: list[int] = []
    held: set[int] = set()
    release = cl.Buffer.release

    def host_buffer(context: cl.Context, size: int) -> cl.Buffer:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
        buffer = cl.Buffer(context, flags, size)
        made.append(size)
        held.add(buffer.int_ptr)
        return buffer

    def noting(self: cl.Buffer) -> None:
        held.discard(self.int_ptr)
        release(self)

    monkeypatch.setattr(landings, "host_buffer", host_buffer)
    monkeypatch.setattr(cl.Buffer, "release", noting)
    yield made
    assert not held, "each is released with its runs"


def _run(device_id: str, chain: Chain, repeat: int) -> np.ndarray:
    with OpenCLRuntime(device_id) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=repeat)
    return result.outputs["y"]


@pytest.mark.parametrize("repeat", [1, 2, 4])
def test_outputs_outlive_the_memory_that_they_came_to(
    device_id: str, make_chain: Make, pinned: list[int], repeat: int
) -> None:
    chain = make_chain(transport=Transport.COPY)
    y = _run(device_id, chain, repeat)
    assert pinned == ([] if repeat == 1 else [chain.y.size * 4])
    np.testing.assert_allclose(y, chain.y, rtol=1e-5, atol=1e-5)
    assert y.flags.writeable


@pytest.mark.parametrize("lacking", ["memory", "mapping"])
def test_without_pinned_memory_outputs_come_all_the_same(
    device_id: str,
    make_chain: Make,
    pinned: list[int],
    monkeypatch: pytest.MonkeyPatch,
    lacking: str,
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise cl.MemoryError("no", cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE)

    monkeypatch.setattr(landings, "host_buffer" if lacking == "memory" else "map_all", refuse)
    chain = make_chain(transport=Transport.COPY)
    y = _run(device_id, chain, repeat=3)
    np.testing.assert_allclose(y, chain.y, rtol=1e-5, atol=1e-5)
    assert len(pinned) == (lacking == "mapping")


def test_later_runs_outputs_arrive_there(
    device_id: str,
    make_chain: Make,
    pinned: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrived: list[int] = []
    copy = cl.enqueue_copy

    def enqueue_copy(queue: cl.CommandQueue, to: Any, *args: Any, **options: Any) -> Any:
        if isinstance(to, np.ndarray) and to.nbytes == 4 * chain.y.size:
            arrived.append(to.ctypes.data)
        return copy(queue, to, *args, **options)

    chain = make_chain(transport=Transport.COPY)
    monkeypatch.setattr(views.cl, "enqueue_copy", enqueue_copy)
    _run(device_id, chain, repeat=4)
    first, *later = arrived
    assert len(later) == 3
    assert set(later) == {later[0]} != {first}
