"""Tuning on a device: every tile that fits is timed with either storage, until the time is up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashmem_lab.device import DeviceSpec
from flashmem_lab.devices import open_device
from flashmem_lab.graph import Graph
from flashmem_lab.lower import Storage
from flashmem_lab.lower.blocks import TILES
from flashmem_lab.profiling.samples import SampleBuilder
from flashmem_lab.profiling.tune import trials


@pytest.fixture
def small(device_id: str) -> DeviceSpec:
    """The device as a GPU with room for one tile alone."""
    found = open_device(device_id)
    return replace(found, kind="gpu", limits=replace(found.limits, local_memory=4 * 1024 + 512))


@pytest.fixture
def graph() -> Graph:
    made = SampleBuilder("small")
    made.add("MatMul", [(1, 40, 48)], (1, 40, 64), weights=[(48, 64)])
    return made.graph()


def test_every_tile_that_fits_is_timed_with_either_storage(small: DeviceSpec, graph: Graph) -> None:
    tried = list(trials(small, graph, seconds=600))
    assert {(one.node, one.tile) for one in tried} == {("MatMul.0", TILES[-1])}
    assert [one.storage for one in tried] == [Storage.IMAGE2D, Storage.BUFFER]
    assert all(one.ns > 0 for one in tried)


def test_no_time_no_trials(small: DeviceSpec, graph: Graph) -> None:
    assert not list(trials(small, graph, seconds=-1))


def test_a_cpu_has_no_tiles_to_try(device_id: str, graph: Graph) -> None:
    device = replace(open_device(device_id), kind="cpu")
    assert {one.tile for one in trials(device, graph, seconds=600)} == {None}
