"""Activations in one buffer: kernels are told where they begin, or are given parts of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower import Storage
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.runtime.opencl import runtime as module
from tests.device.conftest import Chain
from tests.device.test_random_graphs import Builder
from tests.pipeline import run_model


@pytest.fixture
def opened(device_id: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], OpenCLRuntime]:
    """A runtime whose kernels are told where operands begin, as GPUs' are, or as it is."""

    def open_(places: bool) -> OpenCLRuntime:
        if places:
            monkeypatch.setattr(module, "wants_places", lambda device: True)
            monkeypatch.setattr(module, "works_in_place", lambda context, queue: False)
        return OpenCLRuntime(device_id)

    return open_


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[cl.Buffer]:
    """Every part of a buffer that is made."""
    made: list[cl.Buffer] = []
    real = cl.Buffer.get_sub_region

    def get_sub_region(self: cl.Buffer, origin: int, size: int, flags: int = 0) -> cl.Buffer:
        made.append(real(self, origin, size, flags))
        return made[-1]

    monkeypatch.setattr(cl.Buffer, "get_sub_region", get_sub_region)
    return made


@pytest.mark.parametrize("seed", range(0, 60, 5))
def test_a_random_graph_gives_the_same_without_parts(
    seed: int, opened: Callable[[bool], OpenCLRuntime], parts: list[cl.Buffer], tmp_path: Path
) -> None:
    builder = Builder(seed)
    path = tmp_path / "m.onnx"
    onnx.save(builder.model(), path)
    found = []
    for places in (False, True):
        with opened(places) as runtime:
            found.append(run_model(path, builder.inputs, runtime, budget="100%")[1].outputs)
        assert not (places and parts)
        parts.clear()
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], name)


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("storage", list(Storage)[:2])
@pytest.mark.parametrize("barrier", [False, True])
def test_streamed_weights_and_host_steps(
    opened: Callable[[bool], OpenCLRuntime],
    make_chain: Callable[..., Chain],
    transport: Transport,
    storage: Storage,
    barrier: bool,
) -> None:
    chain = make_chain(layers=5, transport=transport, storage=storage, barrier=barrier)
    with opened(True) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=2)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
