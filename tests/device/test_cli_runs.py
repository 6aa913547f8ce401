"""The command line on every OpenCL device: outputs right, budget kept, cache mended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flashmem_lab.cli import main
from tests.unit.small_models import WIDTH, small_model

TRANSPORTS = ("map", "copy", "inline")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(tmp_path: Path, device_id: str) -> list[str]:
    """`run` with an input file on the device; the budget is left to the test."""
    np.save(tmp_path / "x.npy", np.random.default_rng(5).standard_normal((4, WIDTH)).astype("f4"))
    model = small_model(tmp_path / "model", external=True)
    return ["run", str(model), "--device", device_id, "--input", "x=x.npy", "--check"]


def run(capsys: Capture, *argv: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    code = main([*argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


@pytest.mark.parametrize("budget", ["0%", "30%", "100%"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_outputs_are_right_and_the_budget_holds(
    command: list[str], capsys: Capture, budget: str, precision: str, transport: str
) -> None:
    ran, _ = run(
        capsys, *command, "--budget", budget, "--precision", precision, "--transport", transport
    )
    assert ran["check"]["ok"], ran["check"]
    assert ran["peak_bytes"]["total"] <= ran["budget_bytes"]
    assert ran["peak_bytes"]["total"] == ran["predicted"]["peak_bytes"]
    assert ran["transport"] == transport
    assert ran["host_rss_peak_bytes"] > 0  # a process of many tests may shrink below its baseline
    assert ran["host_rss_baseline_bytes"] > 0
    assert ran["cold_ms"] == pytest.approx(sum(ran["stages_ms"].values()))


def test_a_bundle_gives_what_its_model_gives(
    command: list[str], device_id: str, tmp_path: Path, capsys: Capture
) -> None:
    run(capsys, *command, "--budget", "30%", "--output", "direct", "--repeat", "2")
    bundle = ["bundle", *command[1:-1], "--budget", "30%", "-o", "m.fmb"]
    assert main(bundle) == 0
    ran, _ = run(
        capsys, "run", "m.fmb", "--device", device_id, "--input", "x=x.npy", "--output", "bundled"
    )
    assert ran["peak_bytes"]["total"] == ran["predicted"]["peak_bytes"]
    assert ran["kernels_compiled"] == 0, "they were when the bundle was made"
    direct, bundled = (np.load(tmp_path / name / "y.npy") for name in ("direct", "bundled"))
    assert direct.shape == (4, WIDTH)
    assert np.array_equal(direct, bundled)
    assert main([*command, "--budget", "30%", "--output", "direct"]) == 1
    assert "left alone" in capsys.readouterr().err


def test_a_bundle_needs_no_onnx_no_solver_no_compiler_and_nothing_that_draws(
    command: list[str], device_id: str
) -> None:
    assert main(["bundle", *command[1:-1], "--budget", "30%", "-o", "m.fmb"]) == 0
    unwanted = "onnx onnxruntime ortools jinja2 plotly rich ipywidgets scipy"
    code = (
        "import sys; from flashmem_lab.cli import main\n"
        f"sys.modules.update(dict.fromkeys({unwanted.split()!r}))  # importing any raises\n"
        "for name in ('program.build', 'program.pack', 'plan.planner', 'graph.opening'):\n"
        "    sys.modules[f'flashmem_lab.{name}'] = None\n"
        f"sys.exit(main(['run', 'm.fmb', '--device', {device_id!r}, '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kernels_compiled"] == 0


def test_a_damaged_block_of_the_cache_is_made_anew(
    command: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run(capsys, *command, "--budget", "30%")
    (packed,) = (tmp_path / "cache").glob("*.fmw")
    whole = packed.read_bytes()
    damaged = bytearray(whole)
    damaged[4096 + 100] ^= 0x40
    packed.write_bytes(damaged)
    ran, err = run(capsys, *command, "--budget", "30%")
    assert ran["check"]["ok"]
    assert "do not match their checksum; it was made anew" in err
    assert ran["notes"]
    assert packed.read_bytes() == whole


def test_a_damaged_block_of_a_bundle_is_refused(
    command: list[str], device_id: str, capsys: Capture
) -> None:
    assert main(["bundle", *command[1:-1], "--budget", "30%", "-o", "m.fmb"]) == 0
    data = bytearray(Path("m.fmb").read_bytes())
    data[-100] ^= 0x40
    Path("m.fmb").write_bytes(data)
    assert main(["run", "m.fmb", "--device", device_id, "--trace", "t.json"]) == 1
    assert "checksum" in capsys.readouterr().err
    assert not Path("t.json").exists()


def test_wrong_outputs_end_with_1(
    command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashmem_lab import arrays
    from flashmem_lab.lower import Precision

    monkeypatch.setitem(arrays.TOLERANCE, Precision.FP32, -1.0)  # no output is that right
    assert main([*command, "--budget", "30%"]) == 1
    out, err = capsys.readouterr()
    assert "WRONG" in out
    assert "the outputs differ from onnxruntime's" in err


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_queue_keeps_its_cap_and_every_model_is_right(
    device_id: str, tmp_path: Path, capsys: Capture, transport: str
) -> None:
    one = small_model(tmp_path / "models", name="one", seed=1)
    other = small_model(tmp_path / "models", name="other", seed=2)
    ran, _ = run(
        capsys, "queue", str(one), str(other), "--device", device_id, "--rounds", "3", "--shuffle",
        "--dim", "one:batch=4", "--dim", "other:batch=3", "--budget", "60%", "--check",
        "--compare", "--transport", transport, "--trace", "queue.json",
    )  # fmt: skip
    assert len(ran["models"]) == 6
    assert all(place["check"]["ok"] for place in ran["models"])
    assert ran["peak_bytes"]["total"] <= ran["budget_bytes"] < ran["preload_peak_bytes"]
    assert ran["peak_bytes"]["total"] == ran["predicted"]["peak_bytes"]
    starts = [place["start_ms"] for place in ran["models"]]
    assert starts == sorted(starts)
    assert [alone["strategy"] for alone in ran["one_after_another"]] == ["preload", "greedy"]
    assert all(a["peak_bytes"] <= ran["budget_bytes"] for a in ran["one_after_another"])
    assert json.loads(Path("queue.json").read_text())["traceEvents"]


def test_a_damaged_cache_of_a_queue_is_made_anew(
    device_id: str, tmp_path: Path, capsys: Capture
) -> None:
    model = small_model(tmp_path / "models")
    argv = ["queue", str(model), "--device", device_id, "--dim", "batch=2", "--budget", "min"]
    run(capsys, *argv)
    (packed,) = (tmp_path / "cache").glob("*.fmw")
    data = bytearray(packed.read_bytes())
    data[5000] ^= 1
    packed.write_bytes(data)
    ran, said = run(capsys, *argv, "--check")
    assert ran["models"][0]["check"]["ok"]
    assert "made anew" in said


def test_a_profile_is_measured_kept_and_used(
    device_id: str, tmp_path: Path, capsys: Capture
) -> None:
    model = str(small_model(tmp_path / "models"))
    plan = ["plan", model, "--device", device_id, "--dim", "batch=4", "--budget", "100%"]
    before, _ = run(capsys, *plan)
    measured, _ = run(capsys, "profile", "--device", device_id, "-o", "device.json")
    assert {"gemm", "conv", "normalise", "map"} <= measured["kinds"].keys()
    assert all("measured" in cost["source"] for cost in measured["kinds"].values())
    after, _ = run(capsys, *plan)
    assert after["predicted"]["warm_ms"] != before["predicted"]["warm_ms"]
    elsewhere, _ = run(capsys, *plan[:3], "device.json", *plan[4:])
    assert elsewhere["device"] == "sim:device"
    assert elsewhere["predicted"]["warm_ms"] == pytest.approx(after["predicted"]["warm_ms"])


def saved(path: Path, text: str, weights: dict[str, np.ndarray]) -> Path:
    """A model in ONNX's text form, with its weights."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 1e-2), ("float", 1e-4)])
def test_no_more_is_asked_of_a_model_than_its_own_precision(
    kind: str, tolerance: float, device_id: str, tmp_path: Path, capsys: Capture
) -> None:
    text = f"g ({kind}[4, 64] x) => ({kind}[4, 64] y) {{ y = MatMul (x, w) }}"
    weight = np.eye(64, dtype={"float16": "f2", "float": "f4"}[kind])
    model = saved(tmp_path / "m.onnx", text, {"w": weight})
    ran, _ = run(capsys, "run", str(model), "--device", device_id, "--budget", "50%", "--check")
    assert ran["check"]["ok"]
    assert ran["check"]["tolerance"] == tolerance


def test_rows_are_drawn_that_all_tables_have(
    device_id: str, tmp_path: Path, capsys: Capture
) -> None:
    text = (
        "g (int64[1, 50] ids) => (float[1, 50, 64] y) "
        "{ a = Gather (small, ids) b = Gather (large, ids) y = Add (a, b) }"
    )
    rows = {"large": 900, "small": 30}
    tables = {name: np.ones((count, 64), np.float32) for name, count in rows.items()}
    model = saved(tmp_path / "tables.onnx", text, tables)
    ran, _ = run(capsys, "run", str(model), "--device", device_id, "--budget", "min", "--check")
    assert ran["check"]["ok"]


def test_launches_are_recorded_on_demand(command: list[str], capsys: Capture) -> None:
    demand = [*command, "--budget", "100%", "--launch", "recorded"]
    ran, said = run(capsys, *demand, "--repeat", "4", "--trace", "trace.json")
    assert ran["check"]["ok"]
    assert ran["peak_bytes"]["total"] <= ran["budget_bytes"]
    replayed = '"replay"' in Path("trace.json").read_text()
    assert replayed != ("one by one" in said)  # a driver without command buffers is named
    assert ran["profile"]["layers"]
    if replayed:
        assert ran["profile"]["detailed"] == 1
    _, said = run(capsys, *demand, "--repeat", "2")
    assert "third run" in said
