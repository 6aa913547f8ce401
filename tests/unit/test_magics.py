"""Magics in a real IPython shell, and how values show themselves."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from flashmem_lab import workflow
from flashmem_lab.outcome import Outcome
from flashmem_lab.shown import mimebundle
from flashmem_lab.units import Budget
from flashmem_lab.views import Workbench
from tests.unit.small_models import write_chain

DEVICE = "sim:adreno750"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell with the magics, in a folder with a model."""
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    write_chain(tmp_path / "net.onnx")
    made = InteractiveShell.instance()
    made.history_manager.enabled = False
    made.run_line_magic("load_ext", "flashmem_lab")
    yield made
    atexit.unregister(made.atexit_operations)
    made.history_manager.end_session()
    made.history_manager.db.close()
    InteractiveShell.clear_instance()


@pytest.mark.usefixtures("front_end")
def test_a_line_opens_the_workbench(shell: Any) -> None:
    bench = shell.run_line_magic("flashmem", f"net.onnx --device {DEVICE} --budget min")
    assert isinstance(bench, Workbench)
    assert bench.choice.percent == 0
    bench.close()


def test_a_cell_runs_the_model_on_what_it_makes(shell: Any) -> None:
    cell = "import numpy as np\nx0 = np.full((8, 256), 2, np.float32)"
    line = f"net.onnx --device {DEVICE} --budget 50% --repeat 2"
    outcome = shell.run_cell_magic("flashmem", line, cell)
    assert isinstance(outcome, Outcome)
    assert len(outcome.result.warm_ms) == 1
    np.testing.assert_array_equal(shell.user_ns["x0"], 2)


def test_what_fails_is_told_without_a_traceback(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run_line_magic("flashmem", "none.onnx") is None
    assert "there is no model file" in capsys.readouterr().err
    assert shell.run_line_magic("flashmem", f"net.onnx --device {DEVICE} --dim batch") is None
    assert "NAME=VALUE" in capsys.readouterr().err
    assert shell.run_cell_magic("flashmem", f"net.onnx --device {DEVICE}", "1 / 0") is None
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_values_show_themselves_as_text_and_as_html(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    write_chain(tmp_path / "net.onnx")
    prepared = workflow.load(tmp_path / "net.onnx", device=workflow.open_device(DEVICE))
    plan = workflow.make_plan(prepared, budget=Budget(share=0.5))
    outcome = workflow.run(prepared, plan, repeat=2)
    for value, says in (
        (prepared, "8 layers, 8 weights of 2.1 MB"),
        (prepared.graph, "16 nodes, 8 weights of 2.1 MB"),
        (plan, "peak"),
        (outcome.predicted, "Predicted trace of net"),
        (outcome, "first run"),
        (outcome.result, "Run of net on sim:adreno750"),
    ):
        shown = value._repr_mimebundle_()
        assert says in shown["text/plain"]
        assert "<table>" in shown["text/html"]


def test_words_from_outside_are_escaped() -> None:
    shown = mimebundle("<a>", "<b>", [("<c>", "<d>"), ("empty", "")])
    assert "<a>" not in shown["text/html"].replace("<b>", "")
    assert "&lt;d&gt;" in shown["text/html"]
    assert "empty" not in shown["text/plain"]
