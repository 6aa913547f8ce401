"""Edits of a schedule: kept as constraints, undone, refused where they were made, compared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashmem_lab.plan import Constraints, Plan
from flashmem_lab.plan.constraints import Window
from flashmem_lab.views import Workbench
from flashmem_lab.views.diff import plan_diff
from flashmem_lab.views.edits import Action, Edit, History, edited
from tests.unit.small_models import write_chain

DEVICE = "sim:adreno750"


@pytest.fixture
def bench(front_end: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    write_chain(tmp_path / "net.onnx")
    workbench = Workbench(tmp_path / "net.onnx", device=DEVICE, budget="40%")
    yield workbench
    workbench.close()


def planned(bench: Workbench) -> Plan:
    assert bench.plan is not None
    return bench.plan


def ask(bench: Workbench, action: Action, weight: str, first: int = 0, last: int = 0) -> None:
    """As the browser does."""
    content = {"kind": "edit", "action": action, "weight": weight, "first": first, "last": last}
    bench.schedule._handle_custom_msg(content, [])


def test_an_edit_takes_the_place_of_the_one_before() -> None:
    asked = Constraints()
    for edit in (
        Edit(Action.PRELOAD, "a"),
        Edit(Action.STREAM, "b"),
        Edit(Action.WINDOW, "c", 1, 2),
        Edit(Action.STREAM, "a"),
        Edit(Action.FREE, "b"),
    ):
        asked = edited(asked, edit)
    assert asked == Constraints(stream=("a",), windows=(Window("c", 1, 2),))


def test_a_plan_is_compared_with_a_baseline(bench: Workbench) -> None:
    assert bench.schedule.notes["diff"] == []
    bench.schedule.against = "preload"
    ((what, rows),) = bench.schedule.notes["diff"]
    assert what == "Against preload:"
    assert any(row.startswith("peak") for row in rows)
    ask(bench, Action.PRELOAD, planned(bench).streamed[-1].weight)
    assert len(bench.schedule.notes["diff"]) == 3
    bench.schedule.against = ""
    assert len(bench.schedule.notes["diff"]) == 2, "what an edit changed stays said"


def test_history_goes_back_and_forth() -> None:
    history, first, second = History(), Constraints(preload=("a",)), Constraints(preload=("b",))
    assert (history.can_undo, history.can_redo) == (False, False)
    history.push(first)
    history.push(first)
    history.move(-1)
    assert history.current == Constraints()
    assert history.can_redo
    history.move(1)
    assert history.current == first
    history.move(-5)
    history.push(second)
    history.move(1)
    assert history.current == second
    assert not history.can_redo


def test_a_weight_is_pinned_streamed_and_moved(bench: Workbench) -> None:
    budget = planned(bench).budget_bytes
    weight = planned(bench).streamed[-1].weight
    ask(bench, Action.PRELOAD, weight)
    assert weight in planned(bench).preloaded
    assert planned(bench).budget_bytes == budget, "an edit does not move the budget"
    diff = dict(bench.schedule.notes["diff"])
    assert any("now preloaded" in row for row in diff["Against the plan before:"])
    ask(bench, Action.STREAM, weight)
    assert weight not in planned(bench).preloaded
    life = next(one for one in planned(bench).streamed if one.weight == weight)
    ask(bench, Action.WINDOW, weight, life.first_use, life.first_use)
    life = next(one for one in planned(bench).streamed if one.weight == weight)
    assert life.load_at == life.first_use
    for by, demands in ((-1, ("stream",)), (-1, ("preload",)), (1, ("stream",)), (0, ())):
        bench.schedule._handle_custom_msg({"kind": "move", "by": by}, [])
        asked = planned(bench).constraints
        assert [name for name in ("preload", "stream", "windows") if getattr(asked, name)] == [
            *demands
        ]
    outcome = bench.run(wait=True)
    assert outcome is not None


def test_what_cannot_be_is_said_where_it_was_done(bench: Workbench) -> None:
    bench.set_budget("min")
    before = planned(bench)
    for one in before.streamed:
        ask(bench, Action.PRELOAD, one.weight)
        if bench.schedule.notes["refused"]:
            break
    weight, why = bench.schedule.notes["refused"]
    assert weight == one.weight
    assert "move the budget to" in why
    assert "--" not in why
    assert weight not in planned(bench).preloaded, "nothing of it was kept"
    ask(bench, Action.FREE, weight)
    assert bench.schedule.notes["refused"] is None


def test_the_solver_goes_on_in_the_background(bench: Workbench) -> None:
    async def choose() -> None:
        bench._controls.choices._strategy.value = "greedy"
        bench._controls.choices._strategy.value = "lc-opg"
        assert planned(bench).strategy == "greedy", "at once"
        while planned(bench).strategy != "lc-opg":
            await asyncio.sleep(0.01)

    assert bench.choice.strategy == "lc-opg"
    asyncio.run(asyncio.wait_for(choose(), 20))
    assert planned(bench).objective >= planned(bench).bound


def test_plans_that_are_the_same_have_no_difference(bench: Workbench) -> None:
    assert plan_diff(planned(bench), planned(bench)) == []
