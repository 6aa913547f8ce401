"""Weights in buffers of a CPU device are used where their file lies in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import CacheCorrupt
from flashmem_lab.lower.layer import Storage
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.runtime.pagecache import PageCache
from tests.files import cached_bytes, drops_pages

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


def test_dropped_weights_are_read_from_the_disk_in_every_run(
    device_id: str, make_chain: Make, copied: list[int]
) -> None:
    """What stays is copied, so that its pages can go; nothing is left in the page cache."""
    context = cl.Context([find(device_id)])
    in_place = works_in_place(context, cl.CommandQueue(context))
    chain = make_chain(storage=Storage.BUFFER, layers=8, preloaded=[1, 4])
    with chain.packed.path.open("rb") as file:
        os.fsync(file.fileno())
    drops = drops_pages(chain.packed.path)  # a file system in memory keeps them
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=4)
    sizes = [span.bytes for span in chain.packed.spans.values()]
    every_run = [size for at, size in enumerate(sizes) if at not in (1, 4)]
    once = sum(sizes) - sum(every_run)
    assert sum(copied) == once + (0 if in_place else 4 * sum(every_run))
    reads = [e for e in result.trace.timeline.events if e.kind == "read"]
    assert sum(e.bytes for e in reads) == once + 4 * sum(every_run)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["total"] <= chain.program.predicted_peak_bytes
    assert (cached_bytes(chain.packed.path) == 0) == drops


def test_a_weight_that_changes_on_the_disk_is_found_out(
    device_id: str, make_chain: Make, tmp_path: Path
) -> None:
    """Its file got shorter between two runs: what reads ahead meets that first, and it is said."""
    chain = make_chain(storage=Storage.BUFFER, layers=8)
    runs = []

    def shorten(what: str, done: int, total: int) -> None:
        if what == "run 2 of 3" and not runs:
            runs.append(what)
            os.truncate(chain.packed.path, chain.packed.spans["w6"].offset)

    with (
        OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime,
        pytest.raises(CacheCorrupt, match=r"w[67]"),
    ):
        runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3, progress=shorten)
    assert runs
