"""Tiles: the nearest measured size decides, what does not fit is never chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.bench.kernels import product_graph
from flashmem_lab.device import DeviceSpec, simulated_devices
from flashmem_lab.device.tuning import Best, Product, Tile, Tuning
from flashmem_lab.lower import Storage, lower
from flashmem_lab.lower.blocks import TILES, tile_for, tiles_for
from flashmem_lab.lower.layer import KernelCall
from flashmem_lab.profiling.samples import sample_graph
from flashmem_lab.program.carry import Entry, carrying
from flashmem_lab.program.program import Upload
from flashmem_lab.program.render import render
from flashmem_lab.serial import from_plain, to_plain

GPU = simulated_devices()["sim:h100"]
LARGE, SMALL = TILES[0], TILES[-1]
WIDE, TALL = Product(1, 128, 8192, 2048), Product(1, 4096, 64, 64)


def tuned(*best: Best) -> DeviceSpec:
    return replace(GPU, tuning=Tuning("digest", best))


def test_the_nearest_measured_size_decides() -> None:
    device = tuned(Best("gemm", WIDE, LARGE), Best("gemm", TALL, SMALL), Best("conv", WIDE, SMALL))
    assert tile_for(device, "gemm", Product(1, 197, 3072, 768)) == LARGE
    assert tile_for(device, "gemm", Product(1, 2048, 96, 100)) == SMALL


def test_without_a_measurement_there_are_enough_work_groups_or_as_many_as_can_be() -> None:
    assert tile_for(GPU, "gemm", Product(1, 4096, 4096, 64)) == LARGE
    few = tile_for(GPU, "gemm", Product(1, 40, 40, 64))
    assert few.high * few.wide == min(tile.high * tile.wide for tile in tiles_for(GPU.limits))


@pytest.mark.parametrize(("local_memory", "items"), [(16 * 1024, 128), (1024, 16)])
def test_what_does_not_fit_is_not_chosen(local_memory: int, items: int) -> None:
    limits = replace(GPU.limits, local_memory=local_memory, max_work_group=items)
    fits = tiles_for(limits)
    assert fits
    if fits != TILES[-1:]:
        assert all(t.threads <= items and t.local_bytes <= local_memory for t in fits)


def test_what_was_measured_is_not_chosen_where_it_does_not_fit() -> None:
    measured = tuned(Best("gemm", WIDE, LARGE))
    assert tile_for(measured, "gemm", WIDE) == LARGE
    for limits in (
        replace(GPU.limits, local_memory=LARGE.local_bytes - 1),
        replace(GPU.limits, max_work_group=LARGE.threads - 1),
    ):
        assert tile_for(replace(measured, limits=limits), "gemm", WIDE) in tiles_for(limits)


@pytest.mark.parametrize(("image_ns", "buffer_ns"), [(100, 90), (90, 100), (100, 100), (0, 90)])
def test_storage_is_what_was_faster_and_images_where_neither_was(
    image_ns: int, buffer_ns: int, tmp_path: Path
) -> None:
    stored = tmp_path / "w.bin"
    np.zeros((64, 64), np.float32).tofile(stored)
    best = Best("gemm", Product(1, 32, 64, 64), SMALL, image_ns, buffer_ns)
    model = lower(product_graph(stored, 32, 64, 64), tuned(best))
    held = {weight.storage for weight in model.weights.values()}
    assert held == {Storage.BUFFER if image_ns > buffer_ns else Storage.IMAGE2D}


def test_a_long_reduction_is_shared_and_summed(tmp_path: Path) -> None:
    stored = tmp_path / "w.bin"
    np.zeros((512, 64), np.float32).tofile(stored)
    tile = Tile(4, 4, 8, 8, 1, 8, shares=4)
    device = tuned(Best("gemm", Product(1, 32, 64, 512), tile))
    first, second = lower(product_graph(stored, 32, 512, 64), device).layers
    assert (first.kind, second.kind) == ("gemm", "map")
    assert first.bytes_written == 4 * second.bytes_written
    assert first.writes == second.reads


def test_a_tuning_comes_back_from_its_file() -> None:
    tuning = Tuning("digest", (Best("gemm", WIDE, LARGE, 1, 2), Best("conv", TALL, None)))
    assert from_plain(to_plain(tuning), Tuning) == tuning


@pytest.mark.parametrize("device", ["sim:h100", "sim:adreno750", "sim:pocl"])
def test_every_kernel_can_carry_weights(device: str) -> None:
    """Whatever stands before its name, a kernel takes the chunks' arguments after its own."""
    model = lower(sample_graph(), simulated_devices()[device])
    calls = [layer.work for layer in model.layers if isinstance(layer.work, KernelCall)]
    templates = {call.template: render(call) for call in calls}
    assert {"normalise.cl", "resize.cl"} < set(templates)
    entry = Entry(Upload(0, "w", 0, 0, 1, 1, False, ()), "words", 0, 1)
    for kernel in templates.values():
        assert "carry_count0" in carrying(kernel, [entry]).source
