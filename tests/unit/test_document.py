"""What a tab of JupyterLab shows: a workbench, or how to get one; and traces without a kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flashmem_lab import workflow
from flashmem_lab.device import DeviceSpec
from flashmem_lab.errors import DeviceError, UsageError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.plan import Constraints, Objective, Strategy
from flashmem_lab.plan.timeline import MemorySample, Pool, Timeline
from flashmem_lab.trace import RunRow, Trace
from flashmem_lab.trace.codec import save_trace
from flashmem_lab.units import Budget
from flashmem_lab.views import Workbench
from flashmem_lab.views.document import Document, show
from flashmem_lab.views.edits import Action, Edits
from flashmem_lab.views.kept import Keeper, Kept
from flashmem_lab.views.past import MOST_RUNS, RunLog, past
from flashmem_lab.views.planning import Choice
from flashmem_lab.views.timeline_data import read_trace, timeline_data
from flashmem_lab.worker.sketch import preview
from tests.unit.test_view_data import decode
from tests.unit.test_views import Engine

DEVICE = "sim:adreno750"


class NoDevice(Engine):
    """The real way on a machine without OpenCL."""

    def __init__(self) -> None:
        super().__init__()
        self.open_device = self._simulated

    def devices(self) -> list[workflow.DeviceState]:
        return [one for one in workflow.devices() if one.spec.id.startswith("sim:")]

    def _simulated(self, device_id: str = "auto") -> DeviceSpec:
        if device_id == "auto":
            raise DeviceError("no OpenCL device works here", hint="doctor")
        return workflow.open_device(device_id)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A matrix product over a batch of no fixed size."""
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "open", ports[:1], ports[1:], [weight]
    )
    path = tmp_path / "open.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.usefixtures("front_end")
def test_open_dimensions_are_asked_for(model: Path) -> None:
    document = Document(model, NoDevice())
    assert document.bench is None
    assert "batch" in document._error.value
    assert "--dim" not in document._error.value, "there is a field for it"
    document._dims.value = "batch = 8"
    document._again.click()
    assert document.bench is not None
    assert document.bench.choice.device.startswith("sim:"), "there is no OpenCL"
    assert document.box.children == (document.bench.widget,)
    document.bench.close()


def test_a_broken_file_can_be_mended_and_tried_again(model: Path) -> None:
    whole = model.read_bytes()
    model.write_bytes(whole[:40])
    document = Document(model, NoDevice())
    assert "role='alert'" in document._error.value
    assert document._dims.layout.display == "none"
    model.write_bytes(whole)
    document._again.click()
    assert "batch" in document._error.value


def test_a_kernel_has_one_document_of_a_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert show("open.onnx") is show("open.onnx")


def edit(document: Document, action: Action, weight: str) -> None:
    assert document.bench is not None
    content = {"kind": "edit", "action": action, "weight": weight}
    document.bench.schedule._handle_custom_msg(content, [])


def controls_history(document: Document) -> str:
    assert document.bench is not None
    return str(document.bench._controls._history.value)


@pytest.mark.usefixtures("front_end")
def test_what_was_done_outlives_the_kernel(model: Path) -> None:
    first = Document(model, NoDevice())
    first._dims.value = "batch=8"
    first._again.click()
    assert first.bench is not None
    assert len(first.box.children) == 1, "nothing to come back to"
    edit(first, Action.PRELOAD, "w")
    edit(first, Action.STREAM, "w")
    first.bench.schedule._handle_custom_msg({"kind": "move", "by": -1}, [])
    first.bench.set_budget("90%")
    first.bench._controls.choices._optimize.value = "warm"
    first.bench._controls.choices._transport.value = "copy"
    first.bench._controls.choices._chunk.value = 1 << 22
    for _ in range(2):
        first.bench.run(wait=True)
    other = model.with_name("other.onnx")
    other.write_bytes(model.read_bytes())
    first.bench._queue._name.value = "other.onnx"
    first.bench._queue._add.click()

    # As in another kernel: nothing but the file is common to the two.
    second = Document(model, NoDevice())
    assert second.bench is not None
    assert second.bench.choice == first.bench.choice
    assert second.bench.plan is not None
    assert second.bench.plan.constraints.preload == ("w",)
    assert "90.0 %, 1 edit of" in second._words.value
    second.bench.schedule._handle_custom_msg({"kind": "move", "by": 1}, [])
    assert second.bench.plan.constraints.stream == ("w",), "what was undone can be redone"

    assert [one.number for one in RunLog(model).runs] == [1, 2]
    assert controls_history(second).count("<tr>") == 3
    assert "difference" in second.bench._screen.pages.compare._table.value
    assert second.bench._queue.places == [model, other]
    second.bench.run(wait=True)
    assert [one.number for one in RunLog(model).runs] == [1, 2, 3]

    second._afresh.click()
    assert second.box.children == (second.bench.widget,)
    assert second.bench.plan is not None
    assert not second.bench.plan.constraints
    third = Document(model, NoDevice())
    assert third.bench is not None
    assert third.box.children == (third.bench.widget,)
    for document in (first, second, third):
        assert document.bench is not None
        document.bench.close()


def test_a_state_that_is_damaged_or_of_another_time_is_not_taken(model: Path) -> None:
    keeper = Keeper(model)
    assert keeper.load() is None
    choice = Choice(DEVICE, Precision.FP32, Strategy.GREEDY, Objective.COLD, 40.0)
    states = (Constraints(), Constraints(preload=("w",)))
    kept = Kept(choice, {"batch": 8}, (Edits(DEVICE, Precision.FP32, states, 1),))
    keeper.save(kept)
    assert Keeper(model).load() == kept
    assert kept.count == 1
    whole = keeper._file.read_text()
    for damaged in (
        whole[:-9],
        "[]",
        "{}",
        whole.replace("/1", "/2"),
        whole.replace("40.0", "4e9"),
    ):
        keeper._file.write_text(damaged)
        assert keeper.load() is None, damaged
    keeper._file.write_text(whole.replace('"at": 1', '"at": 2'))
    assert keeper.load() is None


def test_a_history_is_of_a_bounded_size(model: Path) -> None:
    samples = [MemorySample(at, Pool.TEXTURE, at % 977) for at in range(100_000)]
    trace = Trace(
        "measured", "m", DEVICE, "greedy", "fp32", 1000, Timeline((), tuple(samples)), (), {}
    )
    one = past(RunRow("a run"), trace)
    assert len(one.time_ms) == len(one.held) <= 514
    assert max(one.held) == 976, "no peak is lost"
    log = RunLog(model)
    for _ in range(MOST_RUNS + 2):
        log.add(one)
    assert log._file.stat().st_size < 1_000_000
    assert [run.number for run in RunLog(model).runs] == list(range(3, MOST_RUNS + 3))
    assert RunLog(model).runs[-1].held == one.held
    log._file.write_text("[")
    assert RunLog(model).runs == ()
    log.add(one)
    assert len(RunLog(model).runs) == MOST_RUNS, "what is known here is written again"


@pytest.mark.usefixtures("front_end")
def test_a_notebook_and_a_tab_of_one_model_have_one_history(model: Path) -> None:
    dims = {"batch": 8}
    notebook = Workbench(model, device=DEVICE, dims=dims, engine=NoDevice())
    other = Workbench(model, device=DEVICE, dims=dims, budget="90%", engine=NoDevice())
    for bench in (notebook, other):
        bench.run(wait=True)
    later = Workbench(model, device=DEVICE, dims=dims, engine=NoDevice())
    assert [one.number for one in RunLog(model).runs] == [1, 2]
    assert str(later._controls._history.value).count("<tr>") == 3
    assert later.choice.percent == 30, "what the cell says counts, not what was done before"
    assert "difference" in later._screen.pages.compare._table.value
    for bench in (notebook, other, later):
        bench.close()
    assert Document(model, NoDevice()).bench is None, "no more than runs was kept: dims are asked"


def test_a_plan_and_a_bundle_are_drawn_as_they_are_predicted(model: Path) -> None:
    prepared = workflow.load(model, device=workflow.open_device(DEVICE), dims={"batch": 8})
    plan = workflow.make_plan(prepared, budget=Budget(share=0))
    trace = preview(prepared, plan)
    save_trace(trace, model.with_name("a.trace.json"))
    assert read_trace(model.with_name("a.trace.json")) == trace
    bundle = model.with_name("a.fmb")
    workflow.save_bundle(prepared, plan, bundle, cache=model.parent / "cache")
    assert read_trace(bundle).layers == trace.layers
    other = workflow.load(model, device=workflow.open_device("sim:mali-g715"), dims={"batch": 8})
    whole = workflow.make_plan(other, budget=Budget(share=1))
    workflow.save_bundle(other, whole, bundle, cache=model.parent / "cache")
    assert read_trace(bundle).device == "sim:mali-g715", "the one that it was planned for"
    header, found = decode(timeline_data(trace))
    assert header["runEvents"] == [0, len(trace.timeline.events)]
    assert found["held"].size == 3 * found["time"].size
    held = found["held"].reshape(3, -1).sum(axis=0)
    assert held.max() == plan.predicted.peak_bytes


def test_a_plan_wants_its_model_beside_it(tmp_path: Path, model: Path) -> None:
    prepared = workflow.load(model, device=workflow.open_device(DEVICE), dims={"batch": 8})
    plan = workflow.make_plan(prepared, budget=Budget(share=0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    workflow.save_plan(plan, elsewhere / "a.plan.json")
    with pytest.raises(UsageError, match=r"there is no open\.onnx beside it"):
        read_trace(elsewhere / "a.plan.json")
