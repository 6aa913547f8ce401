"""The `sweep` command, here and on the workers of a dask scheduler."""

import sys
from pathlib import Path

import pytest

from flashmem_lab.cli import main
from tests.unit.cli_calls import Capture, json_of
from tests.unit.small_models import small_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(small_model(tmp_path / "models"))


def test_sweep(model: str, capsys: Capture) -> None:
    asked = ["sweep", model, "--dim", "batch=2", "--budgets", "100%", "min", "1kB"]
    devices = ["--devices", "sim:adreno750", "sim:videocore7"]
    points = json_of(capsys, *asked, *devices)["points"]
    assert [point["device"] for point in points] == ["sim:adreno750"] * 3 + ["sim:videocore7"] * 3
    small, least, full = points[:3]
    assert small["needed_bytes"] == least["budget_bytes"] == least["predicted"]["peak_bytes"]
    assert full["predicted"]["cold_ms"] <= least["predicted"]["cold_ms"]
    assert least["efficient"]
    assert main([*asked, *devices]) == 0
    assert "needs" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*asked, *devices, "--device", "sim:pocl"])


def test_a_sweep_is_of_plans_like_those_of_plan(model: str, capsys: Capture) -> None:
    how = ["--dim", "batch=2", "--preload", "w0", "--transport", "copy", "--lambda", "0.5"]
    how += ["--optimize", "memory"]
    on = "sim:adreno750"
    (point,) = json_of(capsys, "sweep", model, *how, "--budgets", "50%", "--devices", on)["points"]
    plan = json_of(capsys, "plan", model, *how, "--budget", "50%", "--device", on)
    for same in ("budget_bytes", "preloaded_bytes", "objective", "predicted"):
        assert point[same] == plan[same]
    assert plan["preloaded_bytes"]


def test_a_sweep_on_dask_workers_is_the_same_sweep(model: str, capsys: Capture) -> None:
    distributed = pytest.importorskip("distributed")
    asked = ["sweep", model, "--dim", "batch=2", "--budgets", "100%", "min", "1kB", "--devices"]
    asked += ["sim:adreno750", "sim:videocore7"]
    here = json_of(capsys, *asked)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        there = json_of(capsys, *asked, "--dask", cluster.scheduler_address)
        assert main(["sweep", "gone.onnx", *asked[2:], "--dask", cluster.scheduler_address]) == 1
        assert "gone.onnx" in capsys.readouterr().err
    for points in (here["points"], there["points"]):
        for point in points:
            point.pop("solve_ms", None)
            point.pop("first_plan_ms", None)
    assert there == here


def test_a_scheduler_that_does_not_answer(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("flashmem_lab.cli.sweeping._ANSWER_S", 1)
    asked = ["sweep", model, "--budgets", "min", "--devices", "sim:adreno750"]
    assert main([*asked, "--dask", "tcp://127.0.0.1:9"]) == 1
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_a_sweep_on_dask_says_what_is_missing(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    asked = ["sweep", model, "--budgets", "min", "--devices", "sim:adreno750"]
    assert main([*asked, "--dask", "tcp://127.0.0.1:9"]) == 1
    assert "pip install 'flashmem-lab[dask]'" in capsys.readouterr().err
