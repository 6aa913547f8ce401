"""Streamed weights that later runs copy from pinned host memory instead of reading them."""

from collections.abc import Callable

import numpy as np
import psutil
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower import Storage
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.opencl import pinned
from flashmem_lab.runtime.opencl.mapping import Mapped
from flashmem_lab.runtime.opencl.runtime import OpenCLRuntime
from flashmem_lab.runtime.pagecache import PageCache
from tests.device.conftest import Chain

Make = Callable[..., Chain]
RUNS = 3


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the buffers that weights are kept in, on a device that has other memory for them."""
    sizes: list[int] = []

    def host_buffer(context: cl.Context, size: int) -> cl.Buffer:
        sizes.append(size)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
        return cl.Buffer(context, flags, size)

    monkeypatch.setattr(pinned, "host_buffer", host_buffer)
    return sizes


def _run(device_id: str, chain: Chain, pages: PageCache = PageCache.KEEP) -> RunResult:
    runtime = OpenCLRuntime(device_id, pages=pages)
    try:
        return runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=RUNS)
    finally:
        runtime.close()


def _read(result: RunResult) -> list[int]:
    """Bytes that each run read from the disk."""
    events = result.trace.timeline.events
    return [
        sum(one.bytes for one in events if one.lane is Lane.DISK and one.run == run)
        for run in range(RUNS)
    ]


@pytest.mark.parametrize("storage", list(Storage)[:2])
@pytest.mark.parametrize("preloaded", [(), (1,)])
def test_later_runs_read_nothing(
    device_id: str,
    make_chain: Make,
    pools: list[int],
    monkeypatch: pytest.MonkeyPatch,
    storage: Storage,
    preloaded: tuple[int, ...],
) -> None:
    monkeypatch.setattr(pinned, "POOL_BYTES", 1)  # a pool for each
    chain = make_chain(layers=6, transport=Transport.COPY, storage=storage, preloaded=preloaded)
    result = _run(device_id, chain)
    sizes = [span.bytes for span in chain.packed.spans.values()]
    kept = [size for at, size in enumerate(sizes) if at not in preloaded]
    ring, *made = pools
    assert ring == chain.program.staging_bytes
    assert made == kept
    assert _read(result) == [sum(sizes), 0, 0]
    uploaded = [one for one in result.trace.timeline.events if one.kind == "upload"]
    assert sum(one.bytes for one in uploaded) == sum(sizes) + 2 * sum(kept)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["total"] <= chain.program.predicted_peak_bytes


@pytest.mark.parametrize("lacking", ["pages", "memory", "driver", "driver, later", "mapping"])
def test_every_run_reads_where_nothing_can_be_kept(
    device_id: str,
    make_chain: Make,
    pools: list[int],
    monkeypatch: pytest.MonkeyPatch,
    lacking: str,
) -> None:
    chain = make_chain(transport=Transport.COPY)
    sizes = [span.bytes for span in chain.packed.spans.values()]
    if lacking == "memory":
        full = psutil.virtual_memory()._replace(available=2 * sum(sizes) - 1)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: full)
    given = pinned.host_buffer
    if lacking == "driver":
        monkeypatch.setattr(pinned, "host_buffer", lambda context, size: None)
    if lacking == "driver, later":
        monkeypatch.setattr(pinned, "POOL_BYTES", 1)
        monkeypatch.setattr(
            pinned, "host_buffer", lambda *of: given(*of) if len(pools) < 3 else None
        )
    if lacking == "mapping":

        def refusing(queue: cl.CommandQueue, memory: cl.Buffer, **how: int) -> Mapped:
            if how["rows"] == 1:
                raise cl.RuntimeError("enqueue_map_buffer failed: OUT_OF_HOST_MEMORY")
            return map_all(queue, memory, **how)

        map_all = pinned.map_all
        monkeypatch.setattr(pinned, "map_all", refusing)
    pages = PageCache.DROP if lacking == "pages" else PageCache.KEEP
    result = _run(device_id, chain, pages)
    assert _read(result) == RUNS * [sum(sizes)]
    assert len(pools) == {"driver": 0, "driver, later": 3, "mapping": 2}.get(lacking, 1)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)


def test_pools_hold_several_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "POOL_BYTES", 10)
    sizes = {"a": 4, "b": 6, "c": 1, "d": 12, "e": 3}
    assert list(pinned._pools(sizes, sizes.__getitem__)) == [["a", "b"], ["c"], ["d"], ["e"]]
