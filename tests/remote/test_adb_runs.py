"""Models on a phone: the real adb, a daemon on loopback, the agent, and PoCL beneath it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashmem_lab import workflow
from flashmem_lab.cli import main
from flashmem_lab.errors import DeviceError
from flashmem_lab.units import Budget
from flashmem_lab.worker.jobs import Held, OpenDevice, RunPlan
from flashmem_lab.worker.process import Worker
from tests.remote.fake_adbd import Daemon
from tests.unit.small_models import WIDTH, small_model

pytestmark = pytest.mark.device

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def device(phone: Daemon) -> str:
    """Id of a phone that works."""
    return f"adb:{phone.serial}"


@pytest.fixture
def command(tmp_path: Path, device: str) -> list[str]:
    """`run` with an input file on the phone; the budget is left to the test."""
    np.save(tmp_path / "x.npy", np.random.default_rng(5).standard_normal((4, WIDTH)).astype("f4"))
    model = small_model(tmp_path / "model", external=True)
    return ["run", str(model), "--device", device, "--input", "x=x.npy", "--check"]


def run(capsys: Capture, *argv: str) -> dict[str, Any]:
    capsys.readouterr()
    code = main([*argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("budget", ["0%", "100%"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_outputs_are_right_and_the_budget_holds(
    command: list[str], capsys: Capture, budget: str, precision: str
) -> None:
    ran = run(capsys, *command, "--budget", budget, "--precision", precision, "--repeat", "2")
    assert ran["check"]["ok"], ran["check"]
    assert ran["peak_bytes"]["total"] <= ran["budget_bytes"]
    assert ran["peak_bytes"]["total"] == ran["predicted"]["peak_bytes"]
    assert len(ran["warm_ms"]) == 1
    assert ran["host_rss_peak_bytes"] > 0


def test_a_bundle_runs_and_is_copied_once(
    command: list[str], phone: Daemon, device: str, tmp_path: Path, capsys: Capture
) -> None:
    direct = run(capsys, *command, "--budget", "30%", "--output", "direct")
    bundle = ["bundle", *command[1:-1], "--budget", "30%", "-o", "m.fmb"]
    assert main(bundle) == 0
    run(capsys, "run", "m.fmb", "--input", "x=x.npy", "--output", "bundled")
    outputs = [np.load(tmp_path / name / "y.npy") for name in ("direct", "bundled")]
    assert np.array_equal(*outputs)
    folder = phone.phone.root / "tmp" / "flashmem-lab"
    there = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert there
    assert not [file for file in there if file.name.endswith(".part")]
    again = run(capsys, "run", "m.fmb", "--input", "x=x.npy")
    assert again["device"] == direct["device"] == device
    kept = {file: file.stat().st_mtime_ns for file in there if file.exists()}
    assert kept == there, "what is there already is not copied again"


def test_a_trace_says_how_warm_the_phone_was(
    command: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run(capsys, *command, "--budget", "min", "--trace", "t.json")
    notes = json.loads((tmp_path / "t.json").read_text())["otherData"]
    assert notes["origin"] == "adb"
    assert notes["device"].startswith("Maker Loop One, LOOP8650, ")
    assert notes["driver"].endswith(", Android 14")
    for when in ("before", "after"):
        assert notes[f"thermal_{when}"] == "throttling light, GPU 43.5 °C, skin 36.1 °C"
        assert notes[f"battery_{when}"] == "87 %, 31.2 °C, on USB"
    run(capsys, *command, "--budget", "min", "--trace", "t.json")  # it is known as its own


def test_a_phone_that_goes_during_a_run_is_said(phone: Daemon, device: str, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    prepared = workflow.load(model, device=workflow.open_device(device), dims={"batch": 4})
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))

    def pull(what: str, done: int, total: int) -> None:
        if "run" in what and done:
            phone.drop()

    with pytest.raises(DeviceError) as caught:
        workflow.run(prepared, plan, repeat=20_000, progress=pull)
    assert "went away" in caught.value.message
    assert phone.serial in caught.value.message
    with pytest.raises(DeviceError, match=r"is not there|does not answer"):
        workflow.open_device(device)


def test_it_runs_in_a_child_process_too(device: str, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    with closing(Worker()) as worker:
        spec = worker.do(OpenDevice(device))
        prepared = workflow.load(model, device=spec, dims={"batch": 4})
        plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
        heard: list[object] = []
        outcome = worker.do(RunPlan(prepared, plan, repeat=40, check=True), heard.append)
    assert outcome.check.ok
    assert max(one.total for one in heard if isinstance(one, Held)) <= plan.budget_bytes


def test_a_phone_without_opencl_is_listed_with_its_problem(
    attach: Callable[..., Daemon], tmp_path: Path, capsys: Capture
) -> None:
    bare = attach(environment={"OCL_ICD_VENDORS": str(tmp_path)})
    assert main(["devices", "--json"]) == 0
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)["devices"]}
    found = listed[f"adb:{bare.serial}"]
    assert not found["works"]
    assert "OpenCL" in found["problem"]
