"""A kernel stays usable: what takes long is done elsewhere, and what is asked meanwhile is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab import workflow
from flashmem_lab.errors import Cancelled, FlashMemError, ModelError
from flashmem_lab.plan import Effort, Objective, Strategy
from flashmem_lab.units import Budget
from flashmem_lab.views import Workbench
from flashmem_lab.views.running import Runner
from flashmem_lab.worker import Isolated
from flashmem_lab.worker.jobs import Planned
from flashmem_lab.worker.planning import Ask
from flashmem_lab.worker.process import Worker
from flashmem_lab.workflow import Prepared
from tests.unit.small_models import write_chain
from tests.unit.test_views import Engine

DEVICE = "sim:adreno750"
BEAT = 0.01  # s between two beats of a kernel that has nothing to do
BEATS = 50  # longer than a slider has to rest before the solver begins
LAYERS = 300  # as the paper's large models have


@pytest.fixture
def isolated() -> Iterator[Isolated]:
    made = Isolated(Worker(), Worker(lasting=True))
    yield made
    made.close()


@pytest.fixture
def long_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Many small products, one after another."""
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    weights = [
        numpy_helper.from_array(np.full((16, 16), at, np.float32), f"w{at}") for at in range(LAYERS)
    ]
    nodes = [
        helper.make_node("MatMul", [f"x{at}", f"w{at}"], [f"x{at + 1}"], f"n{at}")
        for at in range(LAYERS)
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 16])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "long", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "long.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


async def until(condition: Callable[[], object]) -> None:
    """Waits for it as a kernel with nothing to do would."""
    end = monotonic() + 60
    while not condition():
        assert monotonic() < end, "it never comes"
        await asyncio.sleep(BEAT)


@contextmanager
def stopped(worker: Worker) -> Iterator[None]:
    """A child process that gets no time at all: whoever waits for it waits until this is over."""
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.usefixtures("front_end")
def test_other_cells_run_while_a_model_is_opened_lowered_and_solved(
    long_model: Path, isolated: Isolated
) -> None:
    isolated.load(long_model, device=workflow.open_device(DEVICE))  # there is a child from here on

    async def other_cells() -> None:
        for _ in range(BEATS):
            await asyncio.sleep(BEAT)

    async def kernel() -> None:
        with stopped(isolated._thinker):
            bench = Workbench(long_model, device=DEVICE, engine=isolated)
            screen, choices = bench._screen, bench._controls.choices
            await other_cells()
            (waiting,) = bench.widget.children
            assert "Opening" in waiting.value

        def done() -> bool:
            solved = screen.plan is not None and screen.plan.strategy == "lc-opg"
            return solved and len(screen._sweeper._places) == 17

        await until(done)
        assert waiting not in bench.widget.children
        with stopped(isolated._thinker):
            choices._precision.value = "fp16"
            await other_cells()
            assert screen.plan is None, "it is being lowered"
        await until(done)
        assert screen.plan is not None
        assert screen.plan.precision == "fp16"
        before = screen.plan.budget_bytes
        with stopped(isolated._thinker):
            choices.slider.value = 77
            await other_cells()
            assert screen.plan.strategy == "greedy", "nobody waits for the solver"
            assert screen.plan.budget_bytes > before
        await until(done)
        bench.close()

    asyncio.run(kernel())


@pytest.mark.usefixtures("front_end")
def test_what_needs_the_model_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    write_chain(tmp_path / "net.onnx")

    async def cell() -> None:
        bench = Workbench(tmp_path / "net.onnx", device=DEVICE, engine=Engine())
        assert bench._screen.plan is None
        bench.set_budget("min")
        assert bench.plan is not None
        assert bench.plan.budget_bytes == bench.plan.min_budget_bytes
        assert bench.run(wait=True) is not None
        bench.close()

    asyncio.run(cell())


@pytest.mark.usefixtures("front_end")
def test_what_cannot_be_opened_is_said_in_place_and_to_who_asks(tmp_path: Path) -> None:
    told: list[BaseException] = []

    async def cell() -> None:
        bench = Workbench(
            tmp_path / "none.onnx", device=DEVICE, engine=Engine(), failed=told.append
        )
        await until(lambda: told)
        (said,) = bench.widget.children
        assert "role='alert'" in said.value
        for ask in (lambda: bench.plan, lambda: bench.run(), lambda: bench.set_budget("min")):
            with pytest.raises(FlashMemError, match=r"none\.onnx"):
                ask()
        bench.close()

    asyncio.run(cell())
    assert isinstance(told[0], ModelError)


class Slow(Engine):
    """Takes its time to lower; counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[Any] = []
        self.load = self._slowly  # type: ignore[assignment]

    def _slowly(self, path: Path, **keywords: Any) -> Prepared:
        self.loads.append((keywords["device"].id, keywords["precision"]))
        threading.Event().wait(0.2)
        if keywords["device"].id == "sim:mali-g72":
            raise ModelError("no kernel for this one")
        return workflow.load(path, **keywords)


@pytest.mark.usefixtures("front_end")
def test_the_last_choice_counts_however_many_were_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    write_chain(tmp_path / "net.onnx")
    engine = Slow()

    async def kernel() -> None:
        bench = Workbench(tmp_path / "net.onnx", device=DEVICE, engine=engine)
        await until(lambda: bench._screen.plan)
        controls = bench._controls
        controls.choices._precision.value = "fp16"
        await until(lambda: len(engine.loads) == 2)
        assert bench._screen.plan is None, "nothing to run meanwhile"
        assert controls.run_bar._run.disabled
        assert "choosing kernels" in controls.run_bar._status.value
        edit = {"kind": "edit", "action": "preload", "weight": "w0"}
        bench.schedule._handle_custom_msg(edit, [])
        controls.choices._precision.value = "fp32"
        controls.choices.slider.value = 80
        await until(lambda: bench._screen.plan)
        assert (bench._screen.plan.precision, bench._screen.plan.constraints.preload) == (
            "fp32",
            (),
        )
        assert not controls.run_bar._run.disabled
        assert bench.choice.percent == 80
        controls.choices._precision.value = "fp16"
        assert bench.plan is not None
        assert len(engine.loads) == 2, "what is lowered is kept"
        bench.close()

    asyncio.run(kernel())


def test_plans_come_one_by_one_and_a_child_outlives_those_that_cannot_be(
    long_model: Path, isolated: Isolated
) -> None:
    device = workflow.open_device(DEVICE)
    prepared = isolated.load(long_model, device=device)
    child = isolated._thinker.pid
    told: list[Planned] = []
    asks = [Ask(Budget(share=0.0)), Ask(Budget(bytes=1)), Ask(Budget(share=1.0))]
    isolated.plan_each(prepared, asks, told.append, lambda: False)
    assert [one.at for one in told] == [0, 1, 2]
    assert [one.found is None for one in told] == [False, True, False]
    assert told[2].found is not None
    assert told[2].found[0].streamed == ()
    with pytest.raises(ModelError):
        isolated.load(long_model.with_name("none.onnx"), device=device)
    assert isolated._thinker.pid == child


def test_a_search_that_is_not_wanted_any_more_ends_at_once(
    long_model: Path, isolated: Isolated
) -> None:
    prepared = isolated.load(long_model, device=workflow.open_device(DEVICE))
    child = isolated._thinker.pid
    # Warm plans of it are never proven the very best, so that the search goes on until it is told.
    ask = Ask(Budget(share=0.4), strategy=Strategy.LC_OPG, optimize=Objective.WARM)
    wanted = [True, False]
    began = monotonic()
    with pytest.raises(Cancelled):
        isolated.make_plan(
            prepared,
            ask,
            Effort(time_s=60, gap=0.0, should_stop=lambda: not wanted.pop(0)),
        )
    assert monotonic() < began + 20
    assert isolated._thinker.pid == child, "it was asked, and is there for the next one"
    plan = isolated.make_plan(prepared, ask, Effort(time_s=0.1))
    assert plan.strategy == "lc-opg"


def test_what_ends_is_told_in_the_context_of_who_began_it() -> None:
    """A kernel's widgets belong to the message that a context names."""
    message: ContextVar[str] = ContextVar("message", default="the last one that came in")
    heard: list[str] = []

    async def cell() -> None:
        message.set("the cell")
        runner: Runner[None] = Runner(lambda _: None, lambda job: heard.append(message.get()))
        runner.start(lambda hear, stop: None)
        await until(lambda: heard)

    asyncio.run(cell())
    assert heard == ["the cell"]
