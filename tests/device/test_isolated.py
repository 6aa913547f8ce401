"""Runs in a child process on real devices: as in this one; live memory; a device that vanishes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab import workflow
from flashmem_lab.errors import FlashMemError
from flashmem_lab.units import Budget
from flashmem_lab.worker import Isolated
from flashmem_lab.worker.jobs import Held, Step
from flashmem_lab.worker.planning import Ask
from flashmem_lab.worker.process import Worker
from tests.unit.small_models import write_chain


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolated]:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    write_chain(tmp_path / "net.onnx")
    isolated = Isolated(Worker(), Worker(lasting=True))
    yield isolated
    isolated.close()


def test_outputs_and_live_memory(engine: Isolated, device_id: str, tmp_path: Path) -> None:
    prepared = engine.load(tmp_path / "net.onnx", device=engine.open_device(device_id))
    plan = engine.make_plan(prepared, Ask(Budget(share=0.3)))
    inputs = {"x0": np.random.default_rng(1).normal(size=(8, 256)).astype(np.float32)}
    heard: list[Step | Held] = []
    first = engine.run(prepared, plan, inputs, repeat=400, check=True, hear=heard.append)
    assert first.check is not None
    assert first.check.ok
    totals = [one.total for one in heard if isinstance(one, Held)]
    assert 0 < max(totals) <= plan.budget_bytes
    assert first.result.kernels_compiled
    shutil.rmtree(tmp_path / "cache" / "kernels")
    again = engine.run(prepared, plan, inputs)
    assert not again.result.kernels_compiled, "kernels stay built in the child"
    here = workflow.run(prepared, plan, inputs)
    for name, array in here.result.outputs.items():
        np.testing.assert_array_equal(again.result.outputs[name], array)


def test_a_device_that_vanishes_and_comes_back(
    engine: Isolated, device_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = engine.load(tmp_path / "net.onnx", device=engine.open_device(device_id))
    plan = engine.make_plan(prepared, Ask(Budget(share=0.3)))
    engine.run(prepared, plan)
    empty = tmp_path / "vendors"
    empty.mkdir()
    with monkeypatch.context() as without:
        without.setenv("OCL_ICD_VENDORS", str(empty))
        assert device_id not in [state.spec.id for state in engine.devices()]
        with pytest.raises(FlashMemError, match=device_id):
            engine.run(prepared, plan)
    assert engine.run(prepared, plan).result.first_run_ms > 0
