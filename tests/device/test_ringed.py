"""Runs of which nothing is kept in the page cache: from the disk to where the device looks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.errors import CacheCorrupt
from flashmem_lab.lower.layer import Storage
from flashmem_lab.program.container import align
from flashmem_lab.runtime.hostmemory import HostMemory
from flashmem_lab.runtime.opencl import OpenCLRuntime, engine, ringed
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.runtime.pagecache import PageCache
from tests.device.test_weightfile import damage
from tests.files import cached_bytes, drops_pages

Make = Callable[..., Any]


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that each read brought."""
    sizes: list[int] = []
    preadv = os.preadv

    def counting(file: int, views: list[Any], offset: int) -> int:
        sizes.append(preadv(file, views, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", counting)
    return sizes


@pytest.fixture(params=["ring", "ring beside pages of activations", "pages of their own"])
def places(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where weights lie."""
    if request.param == "ring beside pages of activations":
        monkeypatch.setattr(engine, "fits", lambda arena, program: False)
    elif request.param == "pages of their own":
        monkeypatch.setattr(ringed, "ring_of", lambda program, weights, room: None)
    return str(request.param)


@pytest.fixture
def in_place(device_id: str) -> bool:
    """Whether the device uses memory of the host."""
    context = cl.Context([find(device_id)])
    return works_in_place(context, cl.CommandQueue(context))


@pytest.fixture
def little_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is read ahead than the weights of a test, so that places are used again."""
    monkeypatch.setattr(ringed, "AHEAD_BYTES", 2**20)


@pytest.mark.usefixtures("places", "little_ahead")
def test_weights_are_read_from_the_disk_in_every_run(
    device_id: str, make_chain: Make, came: list[int], in_place: bool
) -> None:
    """What stays is read once; nothing is left in the page cache."""
    chain = make_chain(storage=Storage.BUFFER, layers=8, preloaded=[1, 4])
    with chain.packed.path.open("rb") as file:
        os.fsync(file.fileno())
    drops = drops_pages(chain.packed.path)  # a file system in memory keeps them
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=4)
    sizes = [span.bytes for span in chain.packed.spans.values()]
    every_run = [size for at, size in enumerate(sizes) if at not in (1, 4)]
    once = sum(sizes) - sum(every_run)
    reads = [e for e in result.trace.timeline.events if e.kind == "read"]
    assert sum(e.bytes for e in reads) == once + 4 * sum(every_run)
    most = [align(size) if in_place else size for size in every_run]
    assert once + 4 * sum(every_run) <= sum(came) <= once + 4 * sum(most)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    assert result.peak_bytes["total"] <= chain.program.predicted_peak_bytes
    assert (cached_bytes(chain.packed.path) == 0) == drops


@pytest.mark.usefixtures("places")
def test_more_than_is_read_ahead_comes_in_every_run(
    device_id: str, make_chain: Make, came: list[int]
) -> None:
    chain = make_chain(storage=Storage.BUFFER, layers=12, width=512, height=512)
    streamed = sum(span.bytes for span in chain.packed.spans.values())
    assert streamed > 32 * 2**20
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        for _ in range(2):
            came.clear()
            result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=5)
            assert sum(came) == 5 * streamed
            np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
            assert result.peak_bytes["total"] <= chain.program.predicted_peak_bytes


def test_memory_of_the_host_is_the_rings(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    sizes: list[int] = []
    memory = ringed.HostMemory
    monkeypatch.setattr(ringed, "HostMemory", lambda size: sizes.append(size) or memory(size))
    monkeypatch.setattr(ringed, "AHEAD_BYTES", 2**20)
    chain = make_chain(storage=Storage.BUFFER, layers=24)
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3)
    weights = [span.bytes for span in chain.packed.spans.values()]
    assert len(sizes) == in_place
    assert sum(sizes) <= 2 * max(weights) + 2**20 < sum(weights) / 6


def test_pages_are_given_back_for_room_where_there_is_no_ring(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    given = 0
    give_back = HostMemory.give_back

    def counting(memory: HostMemory, begin: int, end: int) -> None:
        nonlocal given
        give_back(memory, begin, end)
        assert not memory.bytes[begin:end].any()
        given += end - begin

    monkeypatch.setattr(ringed, "ring_of", lambda program, weights, room: None)
    monkeypatch.setattr(HostMemory, "give_back", counting)
    chain = make_chain(storage=Storage.BUFFER, layers=8)
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3)
    total = sum(align(span.bytes) for span in chain.packed.spans.values())
    # All but those for which the budget had room until they were read anew.
    assert given == 0 if not in_place else 2 * total <= given <= 3 * total


@pytest.mark.usefixtures("places", "little_ahead")
@pytest.mark.parametrize("when", ["before", "between runs"])
def test_what_is_wrong_on_the_disk_reaches_the_user_and_leaves_nothing(
    device_id: str, make_chain: Make, when: str
) -> None:
    """A damaged byte is found in the first run; in later ones only whether all is there."""
    chain = make_chain(storage=Storage.BUFFER, layers=8)
    path, span = chain.packed.path, chain.packed.spans["w6"]
    whole = path.read_bytes()
    asked = []

    def shorten(what: str, done: int, total: int) -> None:
        if when != "before" and what == "run 2 of 4" and not asked:
            asked.append(what)
            os.truncate(path, span.offset)

    if when == "before":
        damage(path, span.offset + span.bytes // 2)
    with OpenCLRuntime(device_id, pages=PageCache.DROP) as runtime:
        # Behind the last weights of a run, or its first ones if they were there, come others.
        with pytest.raises(CacheCorrupt, match="w6" if when == "before" else r"w[67]"):
            runtime.run(chain.program, path, chain.inputs, repeat=4, progress=shorten)
        assert runtime.held_bytes() == {}
        assert not [one for one in threading.enumerate() if one.name.startswith("flashmem")]
        path.write_bytes(whole)
        result = runtime.run(chain.program, path, chain.inputs, repeat=3)
    assert bool(asked) == (when != "before")
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
