"""The tab of several models: picked, planned jointly, run on one timeline, and refused in place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashmem_lab import workflow
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan.plan import Objective, Strategy
from flashmem_lab.views.planning import Choice
from flashmem_lab.views.queue import QueueView
from tests.unit.small_models import write_chain
from tests.unit.test_views import Engine

CHOICE = Choice("sim:adreno750", Precision.FP32, Strategy.GREEDY, Objective.COLD, 0.0)


@pytest.fixture
def view(front_end: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueView]:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "more").mkdir()
    write_chain(tmp_path / "first.onnx")
    write_chain(tmp_path / "more" / "second.onnx")
    made = QueueView(Engine(), tmp_path / "first.onnx", {}, lambda: CHOICE)
    yield made
    made.close()


def add(view: QueueView, name: str) -> None:
    view._name.value = name
    view._add.click()


def test_two_models_are_planned_and_run_together(view: QueueView) -> None:
    assert view._name.options == ("first.onnx", "more/second.onnx")
    assert view.memory not in view.box.children, "there is nothing to see yet"
    add(view, "more/second.onnx")
    view._rounds.value = 2
    view._plan.click()
    assert "least feasible" in view._words.value
    assert view._joint is not None
    assert len(view._joint.plan.joined.starts) == 5, "two models in two rounds"
    assert view.memory in view.box.children
    planned = view.memory.memory
    assert planned != b""
    view._budget.value = 80
    view._run.click()
    assert view.memory.memory != planned
    assert view._table.value.count("second") == 2
    for way in ("together", "one after another, preload", "one after another, greedy"):
        assert way in view._table.value
    assert not view._run.disabled
    assert view._live.box.layout.display == "none"


def test_places_are_taken_out(view: QueueView) -> None:
    add(view, "more/second.onnx")
    add(view, "first.onnx")
    assert len(view._list.children) == 3
    view._list.children[0].children[1].click()
    assert [path.stem for path in view.places] == ["second", "first"]
    view._list.children[0].children[1].click()
    assert view._list.children[0].children[1].disabled, "a queue has a model"


def test_what_cannot_be_is_said(view: QueueView, tmp_path: Path) -> None:
    add(view, "none.onnx")
    assert "there is no file none.onnx" in view._error.value
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x09 no model")
    add(view, "broken.onnx")

    async def press() -> None:
        view._run.click()
        assert view._run.disabled
        while view._runner.job is not None:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(press(), 20))
    assert "role='alert'" in view._error.value
    assert len(view.places) == 2, "the queue is as it was"
    assert not view._run.disabled


def test_devices_are_those_of_the_workbench(view: QueueView) -> None:
    view._plan.click()
    assert view._joint is not None
    assert view._joint.prepared.device == workflow.open_device(CHOICE.device)
