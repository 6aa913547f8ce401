"""Weights in buffers of a CPU device are used where their file lies in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import Storage
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.runtime.pagecache import PageCache

Make = Callable[..., Any]
_IN_PLACE = "Portable Computing Language"  # known to work in the host's memory


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read that copies."""
    sizes: list[int] = []
    preadv = os.preadv

    def counting(file: int, views: list[Any], offset: int) -> int:
        sizes.append(sum(len(view) for view in views))
        return preadv(file, views, offset)

    monkeypatch.setattr(os, "preadv", counting)
    return sizes


@pytest.mark.parametrize("preloaded", [[], [1], range(4)])
def test_nothing_is_copied_where_the_device_works_in_the_hosts_memory(
    runtime: OpenCLRuntime,
    device_id: str,
    make_chain: Make,
    copied: list[int],
    preloaded: list[int],
) -> None:
    context = cl.Context([find(device_id)])
    in_place = works_in_place(context, cl.CommandQueue(context))
    assert in_place or not runtime.spec.driver.startswith(_IN_PLACE)
    chain = make_chain(storage=Storage.BUFFER, preloaded=preloaded)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3)
    reads = [e for e in result.trace.timeline.events if e.kind == "read"]
    sizes = {name: span.bytes for name, span in chain.packed.spans.items()}
    streamed = sum(size for name, size in sizes.items() if int(name[1:]) not in preloaded)
    assert sum(e.bytes for e in reads) == sum(sizes.values()) + 2 * streamed
    assert sum(copied) == (0 if in_place else sum(e.bytes for e in reads))
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["total"] <= chain.program.predicted_peak_bytes


@pytest.mark.parametrize(
    ("storage", "transport", "pages"),
    [
        (Storage.IMAGE2D, Transport.MAP, PageCache.KEEP),
        (Storage.BUFFER, Transport.COPY, PageCache.KEEP),
    ],
)
def test_other_weights_are_copied(
    device_id: str,
    make_chain: Make,
    copied: list[int],
    storage: Storage,
    transport: Transport,
    pages: PageCache,
) -> None:
    chain = make_chain(storage=storage, transport=transport)
    runtime = OpenCLRuntime(device_id, pages=pages)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=2)
    runtime.close()
    assert sum(copied) == 2 * sum(span.bytes for span in chain.packed.spans.values())
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
