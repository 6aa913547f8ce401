"""The workbench on a simulated device: planning in place, running, errors, coalescing, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab import workflow
from flashmem_lab.device import simulated_devices
from flashmem_lab.errors import BudgetTooSmall, Cancelled, DeviceError, FlashMemError
from flashmem_lab.outcome import Outcome
from flashmem_lab.plan import Effort, Plan, Strategy
from flashmem_lab.plan.queue import QueuePlan, plan_queue
from flashmem_lab.queues import Queue, QueueOutcome, run_queue
from flashmem_lab.units import Budget
from flashmem_lab.views import Workbench, markup
from flashmem_lab.views.kept import Kept
from flashmem_lab.views.screen import _DRAW_SECONDS
from flashmem_lab.views.throttle import Throttle
from flashmem_lab.worker.jobs import Held, Planned
from flashmem_lab.worker.planning import Ask
from flashmem_lab.worker.process import Hear, Stop
from flashmem_lab.worker.sketch import preview, sketch
from flashmem_lab.workflow import DeviceState, Prepared
from tests.unit.test_view_data import decode

DEVICE = "sim:adreno750"


class Engine:
    """The real way on simulated devices; a run can be held up or made to fail."""

    def __init__(self) -> None:
        self.plans = 0
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.open_device = workflow.open_device
        self.load = workflow.load

    def devices(self) -> Sequence[DeviceState]:
        broken = DeviceState(simulated_devices()[DEVICE], "cannot compile")
        return [*(DeviceState(spec, "") for spec in simulated_devices().values()), broken]

    def make_plan(self, prepared: Prepared, ask: Ask, effort: Effort | None = None) -> Plan:
        self.plans += 1
        return ask.plan(prepared, effort)

    def plan_each(
        self,
        prepared: Prepared,
        asks: Sequence[Ask],
        hear: Callable[[Planned], None],
        stop: Stop,
    ) -> None:
        for at, ask in enumerate(asks):
            if stop():
                return
            plan = self.make_plan(prepared, ask)
            hear(Planned(at, (plan, sketch(preview(prepared, plan)))))

    def plan_queue(self, queue: Queue, *, budget: Budget) -> QueuePlan:
        models = [prepared.model for prepared in queue.places]
        return plan_queue(models, queue.models[0].device, budget=budget)

    def run_queue(self, queue: Queue, **keywords: Any) -> QueueOutcome:
        keywords = {name: keywords[name] for name in ("budget", "check", "compare")}
        return run_queue(queue, **keywords)

    def save_bundle(self, prepared: Prepared, plan: Plan, path: Path) -> None:
        workflow.save_bundle(prepared, plan, path)

    def run(
        self,
        prepared: Prepared,
        plan: Plan,
        *,
        repeat: int = 1,
        check: bool = False,
        hear: Hear | None = None,
        stop: Stop | None = None,
    ) -> Outcome:
        assert threading.current_thread() is not threading.main_thread()
        assert hear is not None
        assert stop is not None
        hear(Held({"texture": 1000}, 2000))
        while not self.go.wait(0.01):
            if stop():
                raise Cancelled
        if self.error is not None:
            raise self.error
        return workflow.run(prepared, plan, repeat=repeat, check=check)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four matrix products of 256 kB each."""
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for at in range(4):
        weights.append(
            numpy_helper.from_array(rng.normal(size=(256, 256)).astype(np.float32), f"w{at}")
        )
        nodes.append(helper.make_node("MatMul", [f"x{at}", f"w{at}"], [f"x{at + 1}"], f"<m{at}>"))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 256]) for name in ("x0", "x4")
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], weights)
    path = tmp_path / "net.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def bench(front_end: None, model: Path, engine: Engine) -> Iterator[Workbench]:
    workbench = Workbench(model, device=DEVICE, engine=engine)
    yield workbench
    engine.go.set()
    workbench.close()


def controls(bench: Workbench) -> Any:
    return bench._controls


def held(bench: Workbench, what: str) -> np.ndarray:
    """Bytes that the picture of memory shows "predicted" or "measured", all pools together."""
    sent = decode(bench.memory.memory)[1]
    return sent[f"{what}Held"].reshape(3, -1).sum(axis=0)


def test_shows_the_model_and_its_prediction(bench: Workbench) -> None:
    plan = bench.plan
    assert plan is not None
    assert bench.choice.percent == 30
    assert plan.min_budget_bytes < plan.budget_bytes < plan.preload_peak_bytes
    assert max(held(bench, "predicted")) == plan.predicted.peak_bytes
    assert held(bench, "measured").size == 0
    assert "4</b> layers" in controls(bench)._summary.value
    assert "x0 [8, 256]" in controls(bench)._summary.value
    assert [label for label, _ in controls(bench).choices._device.options] == [
        f"{spec.id} · {spec.name}" for spec in simulated_devices().values()
    ]
    assert "application/vnd.jupyter.widget-view+json" in bench._repr_mimebundle_()


def test_the_prediction_follows_the_slider_in_place(bench: Workbench) -> None:
    memory = bench.memory
    controls(bench).choices.slider.value = 0
    least = bench.plan
    controls(bench).choices.slider.value = 100
    most = bench.plan
    assert least is not None
    assert most is not None
    assert least.budget_bytes == least.min_budget_bytes
    assert most.budget_bytes == most.preload_peak_bytes
    assert max(held(bench, "predicted")) == most.predicted.peak_bytes
    assert bench.memory is memory
    assert controls(bench).choices.slider.ends == [least.budget_bytes, most.budget_bytes]


def test_the_map_of_addresses_is_made_when_it_is_seen(bench: Workbench) -> None:
    assert bench.memory.addresses == b""
    bench.memory.mode = "map"
    header, sent = decode(bench.memory.addresses)
    assert bench.plan is not None
    assert header["topBytes"] >= bench.plan.predicted.peak_bytes
    assert {"w0", "w1", "w2", "w3"} < set(header["names"])
    assert (sent["address"] + sent["size"]).max() == header["topBytes"]
    controls(bench).choices.slider.value = 100
    assert decode(bench.memory.addresses)[0]["topBytes"] > header["topBytes"]


def test_budgets_elsewhere_are_planned_in_idle_moments(bench: Workbench, engine: Engine) -> None:
    async def look_away() -> None:
        controls(bench).choices.slider.value = 50
        while engine.plans < 17 + before:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    before = engine.plans
    asyncio.run(asyncio.wait_for(look_away(), 20))
    header, sent = decode(bench.memory.sweep)
    assert bench.memory.sweep == controls(bench).choices.slider.sweep
    assert sent["percent"].tolist() == [100 * at / 16 for at in range(17)]
    assert header["marks"][0][:2] == [0, "least"]
    assert bench.plan is not None
    assert (header["least"], header["full"]) == tuple(controls(bench).choices.slider.ends)
    assert bench.choice.percent == 50, "the slider stays where it is"


def test_a_slider_that_moves_has_the_kernel_for_itself(bench: Workbench, engine: Engine) -> None:
    async def move() -> None:
        controls(bench).choices.slider.moving = True
        before = engine.plans
        await asyncio.sleep(0.4)
        assert engine.plans == before, "nothing is planned for elsewhere meanwhile"
        controls(bench).choices.slider.moving = False
        while engine.plans == before:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(move(), 60))


def test_every_control_makes_another_plan(bench: Workbench) -> None:
    def plan() -> Plan:
        assert bench.plan is not None
        return bench.plan

    controls(bench).choices._strategy.value = "preload"
    assert bench.plan is None
    assert "move the budget to" in controls(bench)._error.value
    controls(bench).choices.slider.value = 100
    assert controls(bench)._error.value == ""
    assert (plan().strategy, plan().streamed) == ("preload", ())
    controls(bench).choices._strategy.value = "greedy"
    controls(bench).choices._optimize.value = "memory"
    assert plan().optimize == "memory"
    assert not controls(bench).choices._price.disabled, "it is the price of memory"
    ring, before = plan().staging_bytes, plan().preload_peak_bytes
    assert ring > 0
    controls(bench).choices._transport.value = "map"
    assert (plan().transport, plan().preload_peak_bytes) == ("map", before - ring)
    assert controls(bench).choices.slider.ends[1] == before - ring, "the ring is part of the budget"
    controls(bench).choices._transport.value = ""
    controls(bench).choices._chunk.value = 1 << 18
    assert plan().chunk_bytes == 1 << 18
    full = plan().preload_peak_bytes
    controls(bench).choices._precision.value = "fp16"
    assert plan().precision == "fp16"
    assert plan().preload_peak_bytes < full
    other = next(name for name in simulated_devices() if name != DEVICE)
    controls(bench).choices._device.value = other
    assert plan().device == other


def test_a_budget_is_set_by_call_in_any_form(bench: Workbench) -> None:
    plan = bench.plan
    assert plan is not None
    middle = (plan.min_budget_bytes + plan.preload_peak_bytes) // 2
    bench.set_budget(str(middle))
    assert bench.plan is not None
    assert bench.plan.budget_bytes == middle
    bench.set_budget("10GB")
    assert bench.choice.percent == 100
    bench.set_budget("min")
    assert bench.choice.percent == 0
    with pytest.raises(BudgetTooSmall):
        bench.set_budget("1kB")
    with pytest.raises(ValueError, match="not a size"):
        bench.set_budget("much")


@pytest.mark.usefixtures("front_end")
def test_a_budget_that_is_too_small_to_begin_with_is_said(model: Path, engine: Engine) -> None:
    bench = Workbench(model, device=DEVICE, budget="1kB", engine=engine)
    assert bench.choice.percent == 0, "the least one is shown"
    assert "move the budget to" in controls(bench)._error.value
    controls(bench).choices.slider.value = 50
    assert controls(bench)._error.value == ""
    bench.close()


def test_a_run_draws_what_it_held_over_what_was_predicted(bench: Workbench) -> None:
    outcome = bench.run(wait=True)
    assert outcome is not None
    assert bench.outcome is outcome
    assert max(held(bench, "predicted")) > 0
    assert max(held(bench, "measured")) == outcome.result.peak_bytes["total"]
    assert "first run" in controls(bench)._result.value
    assert controls(bench)._history.value.count("<tr>") == 2
    assert not controls(bench).run_bar.busy
    bench.set_budget("min")
    assert bench.outcome is None, "what was measured belongs to another plan"
    assert held(bench, "measured").size == 0
    bench.run(wait=True)
    assert controls(bench)._history.value.count("<tr>") == 3
    compared = bench._screen.pages.compare
    assert "difference" in compared._table.value
    assert [len(line.x) > 1 for line in compared._figure.data] == [True, True]
    before = compared._table.value
    compared._choices[0].value, compared._choices[1].value = 0, 1
    assert compared._table.value != before


def test_the_kernel_stays_usable_while_a_run_is_under_way(bench: Workbench, engine: Engine) -> None:
    async def press_then_drag() -> None:
        engine.go.clear()
        controls(bench).run_bar._run.click()
        assert controls(bench).run_bar.busy
        job = bench._runs.runner.job
        controls(bench).run_bar._run.click()
        assert bench._runs.runner.job is job, "one run at a time"
        controls(bench).choices.slider.value = 80
        assert bench.plan is not None
        engine.go.set()
        while controls(bench).run_bar.busy:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(press_then_drag(), 20))
    assert bench.outcome is None, "it ran under the budget before"
    assert "first run" in controls(bench)._result.value
    assert held(bench, "measured").size == 0


def test_what_fails_is_said_in_place_with_what_to_do(bench: Workbench, engine: Engine) -> None:
    engine.error = DeviceError("<gone>", hint="plug it in")
    with pytest.raises(DeviceError):
        bench.run(wait=True)
    assert "&lt;gone&gt;" in controls(bench)._error.value
    assert "plug it in" in controls(bench)._error.value
    assert not controls(bench).run_bar.busy
    engine.error = None
    bench.run(wait=True)
    assert controls(bench)._error.value == ""


def test_a_run_is_stopped_and_says_what_it_holds(bench: Workbench, engine: Engine) -> None:
    async def press_and_stop() -> None:
        engine.go.clear()
        controls(bench).run_bar._run.click()
        while "holds" not in bench._runs._live.box.value:
            await asyncio.sleep(0.01)
        assert "1.0 kB</b> of" in bench._runs._live.box.value
        assert "<polyline" in bench._runs._live.box.value
        controls(bench).run_bar._stop.click()
        while controls(bench).run_bar.busy:
            await asyncio.sleep(0.01)

    plan = bench.plan
    asyncio.run(asyncio.wait_for(press_and_stop(), 20))
    assert "stopped" in controls(bench).run_bar._status.value
    assert bench._runs._live.box.layout.display == "none"
    assert bench.plan is plan


def test_devices_come_and_go(bench: Workbench, engine: Engine) -> None:
    async def look() -> None:
        controls(bench).choices._again.click()
        while bench._runs.looker.job is not None:
            await asyncio.sleep(0.01)

    plans, states = engine.plans, engine.devices()
    gone = [state for state in states if state.spec.id != DEVICE]
    engine.devices = lambda: gone  # type: ignore[method-assign]
    engine.error = DeviceError("lost")
    with pytest.raises(DeviceError):
        bench.run(wait=True)
    assert (f"{DEVICE} · not there now", DEVICE) in controls(bench).choices._device.options
    assert bench.choice.device == DEVICE
    assert "lost" in controls(bench)._error.value
    engine.devices = lambda: states  # type: ignore[method-assign]
    asyncio.run(asyncio.wait_for(look(), 20))
    assert not any("not there" in label for label, _ in controls(bench).choices._device.options)
    assert engine.plans == plans


def test_a_plan_that_fails_leaves_nothing_to_run(bench: Workbench, engine: Engine) -> None:
    def refuse(prepared: Prepared, ask: Ask, effort: Effort | None = None) -> Plan:
        raise FlashMemError("no plan", hint="another budget")

    make_plan = engine.make_plan
    engine.make_plan = refuse  # type: ignore[method-assign]
    controls(bench).choices.slider.value = 60
    assert bench.plan is None
    assert bench.memory.memory == b""
    assert "no plan" in controls(bench)._error.value
    assert controls(bench)._prediction.value == "", "that was of the plan before"
    assert controls(bench).run_bar._run.disabled
    assert bench.run(wait=True) is None
    engine.make_plan = make_plan  # type: ignore[method-assign]
    controls(bench).choices.slider.value = 50
    assert not controls(bench).run_bar._run.disabled


@pytest.mark.usefixtures("front_end")
def test_a_model_without_a_plan_is_seen(model: Path, engine: Engine) -> None:
    choice = Workbench(model, device=DEVICE, engine=engine).choice
    kept = Kept(replace(choice, strategy=Strategy.PRELOAD), {}, ())
    bench = Workbench(model, device=DEVICE, engine=engine, kept=kept)
    assert bench.plan is None
    assert "move the budget to" in controls(bench)._error.value
    assert "4</b> layers" in controls(bench)._summary.value
    assert bench.graph.graph, "the graph needs no plan"
    least, full = controls(bench).choices.slider.ends
    assert 0 < least < full
    bench.close()


def test_a_model_or_device_that_is_not_there_is_an_error(model: Path, engine: Engine) -> None:
    with pytest.raises(FlashMemError):
        Workbench(model.with_name("other.onnx"), device=DEVICE, engine=engine)
    with pytest.raises(FlashMemError):
        Workbench(model, device="sim:none", engine=engine)
    with pytest.raises(ValueError, match="much"):
        Workbench(model, device=DEVICE, budget="much", engine=engine)


def test_a_drag_is_planned_once_in_a_while_and_for_its_end(
    bench: Workbench, engine: Engine
) -> None:
    plans: list[Ask] = []  # of the slider: those of the solver and along the scale are in threads
    make_plan = engine.make_plan

    def count(prepared: Prepared, ask: Ask, effort: Effort | None = None) -> Plan:
        if threading.current_thread() is threading.main_thread():
            plans.append(ask)
        return make_plan(prepared, ask, effort)

    def shown() -> int:
        plan = bench._screen.plan
        assert plan is not None
        return plan.budget_bytes

    async def drag() -> float:
        began = monotonic()
        for percent in range(100):
            controls(bench).choices.slider.value = percent / 2
            await asyncio.sleep(0)
        while shown() != least + round(0.495 * span):
            await asyncio.sleep(0.01)
        return monotonic() - began

    assert bench.plan is not None
    least = bench.plan.min_budget_bytes
    span = bench.plan.preload_peak_bytes - least
    engine.make_plan = count  # type: ignore[method-assign]
    took = asyncio.run(asyncio.wait_for(drag(), 60))
    assert 1 <= len(plans) <= 2 + took / _DRAW_SECONDS


@pytest.mark.usefixtures("front_end")
def test_a_closed_workbench_hears_nothing(model: Path, engine: Engine) -> None:
    workbench = Workbench(model, device=DEVICE, engine=engine)
    slider, button = controls(workbench).choices.slider, controls(workbench).run_bar._run

    async def close_while_running() -> None:
        engine.go.clear()
        button.click()
        workbench.close()
        engine.go.set()
        await asyncio.sleep(0.3)

    asyncio.run(close_while_running())
    before = engine.plans
    slider.value = 90
    button.click()
    assert engine.plans == before
    assert workbench._runs.runner.job is None
    assert controls(workbench)._result.value == ""


def test_throttle_forgets_what_was_cancelled() -> None:
    calls: list[int] = []

    async def burst() -> None:
        throttle = Throttle(lambda: calls.append(1), 0.01)
        throttle.request()
        throttle.cancel()
        await asyncio.sleep(0.05)
        throttle.request()
        throttle.request()
        throttle.flush()
        throttle.flush()
        await asyncio.sleep(0.05)

    asyncio.run(burst())
    assert calls == [1]


def test_progress_counts_or_weighs() -> None:
    assert "run 1 of 2: 8 of 61" in markup.progress("run 1 of 2", 8, 61)
    assert "packing: 94.0 MB of 102.4 MB" in markup.progress("packing", 94_048_256, 102_449_152)


def test_errors_without_a_hint_are_escaped_too() -> None:
    assert "ValueError: &lt;x&gt;" in markup.failure(ValueError("<x>"))
