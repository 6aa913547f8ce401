"""What is taken away from a workbench: files that open again, and text that does the same."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flashmem_lab import workflow
from flashmem_lab.cli import main
from flashmem_lab.plan import Constraints, Window
from flashmem_lab.plan.plan import Plan
from flashmem_lab.program import is_bundle
from flashmem_lab.trace import load_trace
from flashmem_lab.views import Workbench
from flashmem_lab.views.exports import What, export
from tests.unit.small_models import write_chain

DEVICE = "sim:adreno750"


@pytest.fixture
def bench(front_end: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """A workbench with edits of every kind, whose run was compared with nothing."""
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "my net.onnx"
    write_chain(path)
    made = Workbench(path, device=DEVICE, budget="60%", precision="fp16", repeat=3)
    made._controls.choices._strategy.value = "greedy"
    made._controls.choices._optimize.value = "memory"
    made._controls.choices._price.value = 0.4
    made._controls.choices._transport.value = "copy"
    made._controls.choices._chunk.value = 1 << 19
    for content in (
        {"action": "preload", "weight": "w6"},
        {"action": "stream", "weight": "w2"},
        {"action": "window", "weight": "w5", "first": 3, "last": 4},
    ):
        made.schedule._handle_custom_msg({"kind": "edit", **content}, [])
    yield made
    made.close()


def plan_of(bench: Workbench) -> Plan:
    plan = bench.plan
    assert plan is not None
    assert (plan.transport, plan.chunk_bytes) == ("copy", 1 << 19)
    assert plan.constraints == Constraints(("w6",), ("w2",), (Window("w5", 3, 4),))
    return plan


def test_copied_python_makes_the_same_plan(bench: Workbench) -> None:
    found: dict[str, Any] = {}
    exec(bench._screen.exports.python, found)
    assert found["plan"].streamed == plan_of(bench).streamed
    assert found["plan"].budget_bytes == plan_of(bench).budget_bytes
    assert found["plan"].objective == plan_of(bench).objective, "lambda is the same"
    assert len(found["outcome"].result.warm_ms) == 2


def test_the_copied_command_makes_the_same_run(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *words = shlex.split(bench._screen.exports.command)
    assert program == "flashmem-lab"
    assert main([*words, "--json"]) == 0
    ran = json.loads(capsys.readouterr().out)
    plan = plan_of(bench)
    assert ran["budget_bytes"] == plan.budget_bytes
    assert ran["peak_bytes"]["total"] == plan.predicted.peak_bytes
    assert (ran["precision"], ran["strategy"], len(ran["warm_ms"])) == ("fp16", "greedy", 2)


def test_text_follows_what_is_clicked(bench: Workbench) -> None:
    bench._controls.run_bar._repeat.value = 9
    assert bench._screen.exports.command.endswith("--repeat 9")
    bench._controls.choices._strategy.value = "preload"  # which contradicts the edits
    assert bench.plan is None
    assert bench._screen.exports.command == bench._screen.exports.python == ""


def test_files_open_again(bench: Workbench, tmp_path: Path) -> None:
    subject = bench._screen.subject()
    assert subject is not None
    assert export(What.TRACE, subject, bench._screen.exports._engine).name == "my net.trace.json"
    assert not bench._screen.exports.measured
    outcome = bench.run(wait=True)
    assert bench._screen.exports.measured
    subject = bench._screen.subject()
    assert subject is not None
    assert outcome is not None
    for what, check in (
        (What.PLAN, lambda path: workflow.load_plan(path) == subject.plan),
        (What.TRACE, lambda path: load_trace(path) == outcome.result.trace),
        (What.PERFETTO, lambda path: path.stat().st_size > 1000),
        (What.REPORT, lambda path: "my net" in path.read_text()),
    ):
        file = export(what, subject, bench._screen.exports._engine)
        path = tmp_path / file.name
        path.write_bytes(file.content)
        assert check(path), what
    assert (
        "wrote my net.fmb beside the model"
        in export(What.BUNDLE, subject, bench._screen.exports._engine).words
    )
    assert is_bundle(tmp_path / "my net.fmb")


def test_a_button_sends_a_file_or_says_why_not(bench: Workbench, tmp_path: Path) -> None:
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    view = bench._screen.exports
    view.send = lambda content, buffers=(): sent.append((content, list(buffers)))

    async def press(what: str) -> None:
        view._handle_custom_msg({"kind": "export", "what": what}, [])
        while view._maker.job is not None:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(press("plan"), 20))
    assert sent[-1][0]["name"] == "my net.plan.json"
    assert json.loads(sent[-1][1][0])["schema"] == "flashmem-lab/plan/1"
    (tmp_path / "my net.fmb").write_text("somebody's letter")
    asyncio.run(asyncio.wait_for(press("bundle"), 20))
    assert sent[-1][0]["kind"] == "failed"
    assert (tmp_path / "my net.fmb").read_text() == "somebody's letter"
