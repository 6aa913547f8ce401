"""Benches: what their tables say is what the runs said."""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashmem_lab import cli
from flashmem_lab.bench import cold, memory, offload
from flashmem_lab.cli.bench import BENCHES
from flashmem_lab.errors import FlashMemError


def ran(budget: int, took: float) -> dict[str, Any]:
    return {
        "weight_bytes": 50_000_000,
        "preload_peak_bytes": 60_000_000,
        "min_budget_bytes": 7_000_000,
        "budget_bytes": budget,
        "peak_bytes": {"total": budget - 5},
        "average_bytes": budget // 2,
        "first_run_ms": took,
        "check": {"rel_l2": 2e-4},
    }


def test_rows_hold_the_figures_of_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []

    def child(command: list[str], **_: object) -> argparse.Namespace:
        commands.append(command)
        budget = command[command.index("--budget") + 1]
        figures = ran(
            {"10%": 12_000_000, "100%": 60_000_000}[budget], {"10%": 30.0}.get(budget, 20.0)
        )
        return argparse.Namespace(returncode=0, stdout=json.dumps(figures), stderr="")

    monkeypatch.setattr(subprocess, "run", child)
    (tmp_path / "resnet50").mkdir()
    (tmp_path / "resnet50" / "resnet50.onnx").write_bytes(b"there")
    table = tmp_path / "memory.md"
    argv = ["--models", "resnet50", "--budgets", "10%", "--folder", str(tmp_path), "--check"]
    assert memory.main([*argv, "--json", "--markdown", str(table)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["runs"][0]["peak_bytes"] == 11_999_995
    assert row["paper_average_mb"] == 83
    line = next(line for line in table.read_text().splitlines() if line.startswith("| resnet50"))
    assert "| 12.0, 6.0 | 83 | 1.50 |" in line
    assert "--strategy preload" in " ".join(commands[-1])
    assert all("--check" in command for command in commands)


def test_a_run_that_fails_stops_the_bench_with_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *_, **__: argparse.Namespace(returncode=1, stdout="", stderr="error: no device"),
    )
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "vit.onnx").write_bytes(b"there")
    with pytest.raises(FlashMemError, match="no device"):
        memory.main(["--models", "vit", "--folder", str(tmp_path)])


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"flashmem-lab bench {name}" in text
    assert "--json" in text
    assert "{bert-base," not in text, "models are named once, not listed twice in the usage"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("streaming", ["--budget", "much"]),
        ("offload", ["--budget", "much"]),
        ("cold", ["--budget", "much"]),
        ("memory", ["--budgets", "10%", "much"]),
        ("memory", ["--passes", "0"]),
        ("models", ["--rounds", "0"]),
        ("kernels", ["--rounds", "0"]),
        ("streaming", ["--rounds", "0"]),
        ("prediction", ["--repeat", "1"]),
        ("planner", ["--time-limit", "0"]),
        ("kernels", ["--device", "sim:pocl"]),
        ("models", ["--device", "mine.json"]),
    ],
)
def test_what_no_bench_can_do_is_bad_usage(
    name: str, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", name, *option])
    assert ended.value.code == 2
    assert f"argument {option[0]}: " in capsys.readouterr().err


def test_the_peer_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(offload, "missing", lambda *names: names)
    assert cli.main(["bench", "offload"]) == 1
    assert "torch and accelerate" in capsys.readouterr().err


def test_cold_takes_the_best_turn_and_the_largest_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.dumps({"stages_ms": {"first_run": 5.0}, "kernels_compiled": 1})
    turns = {"bundle": [900.0, 30.0, 20.0], "peer": [1.0, 40.0, 50.0]}
    sizes = {"bundle": [9_000, 100, 300], "peer": [9_000, 500, 600]}

    def start(command: list[str], cache: Path) -> cold.Start:
        who = "bundle" if "flashmem_lab" in command else "peer"
        return cold.Start(turns[who].pop(0), sizes[who].pop(0), said)

    made = {"device": "ocl:0", "budget_bytes": 7}
    monkeypatch.setattr(cold, "run_json", lambda *_: made)
    monkeypatch.setattr(cold, "_save_inputs", lambda *_: ["x=x.npy"])
    monkeypatch.setattr(cold, "start", start)
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "vit.onnx").write_bytes(b"there")
    argv = ["--models", "vit", "--folder", str(tmp_path), "--rounds", "2", "--json"]
    assert cold.main(argv) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert (row["bundle_ms"], row["peer_ms"], row["time_ratio"]) == (20.0, 40.0, 0.5)
    assert (row["bundle_rss_bytes"], row["peer_rss_bytes"], row["rss_ratio"]) == (300, 600, 0.5)
    assert row["kernels_compiled"] == 2, "the turn that does not count may compile"


def test_a_process_is_measured_by_what_it_held(tmp_path: Path) -> None:
    held = 300 * 2**20
    code = f"held = bytearray({held}); held[::4096] = b'1' * len(held[::4096]); print('done')"
    ran = cold.start([sys.executable, "-c", code], tmp_path)
    assert ran.said == "done\n"
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of this process
    assert held < ran.rss_bytes <= max(2 * held, inherited)
    with pytest.raises(FlashMemError, match="no good"):
        cold.start([sys.executable, "-c", "import sys; sys.exit('no good')"], tmp_path)
