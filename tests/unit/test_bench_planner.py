"""`flashmem-lab bench planner`: JSON for programs, Markdown for the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashmem_lab.bench.planner import main


def test_one_run_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = tmp_path / "tables.md"
    asked = ["--json", "--models", "resnet50", "--optimize", "cold", "--markdown", str(tables)]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["budget"] for row in found["solve"]] == [0.1, 0.3, 0.6]
    text = tables.read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## solve", "## naive", "## paper", "## replan"]
    gaps = ", ".join(f"{row['gap']:.2%}" for row in found["solve"])
    assert f"| resnet50 (56, 108) | {gaps} |" in text
    always = found["naive"][0]["always-next"]
    assert f"| resnet50 | {always['cold']:.2f} (+{always['cold_carried']:.2f}) |" in text
    simulated = found["paper"][0]["integrated_ms"]
    assert f"| resnet50 | {simulated:.0f} \\| 473 |" in text
    assert text.rstrip().splitlines()[-1].startswith("| resnet50 | ")
