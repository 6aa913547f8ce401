"""Bad input through the command line: a clear message, exit code 1, and nothing written."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from flashmem_lab.cli import main
from tests.unit.small_models import WIDTH, small_model

Capture = pytest.CaptureFixture[str]
BATCH = ["--dim", "batch=2"]
ON_PAPER = ["--device", "sim:pocl", *BATCH]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(tmp_path: Path, capsys: Capture, *argv: str) -> str:
    """Runs a command that must fail cleanly; returns its message."""
    before = files(tmp_path)
    written = ["--trace", "t.json", "--html", "r.html"] if argv[0] == "run" else []
    assert main([*argv, *written]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert files(tmp_path) == before, "nothing is written"
    return err


def test_a_missing_model(tmp_path: Path, capsys: Capture) -> None:
    error = refused(tmp_path, capsys, "run", "none.onnx", *ON_PAPER, "--budget", "min")
    assert "there is no model file" in error


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.999])
def test_a_truncated_model(tmp_path: Path, capsys: Capture, share: float) -> None:
    model = small_model(tmp_path)
    data = model.read_bytes()
    model.write_bytes(data[: round(len(data) * share)])
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "min")
    assert "small.onnx" in error


def test_external_data_that_is_missing(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path, external=True)
    (tmp_path / "small.onnx.data").unlink()
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "min")
    assert "small.onnx.data" in error


def test_external_data_that_is_too_short(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path, external=True)
    data = tmp_path / "small.onnx.data"
    data.write_bytes(data.read_bytes()[:-4])
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "min")
    assert "small.onnx.data" in error


@pytest.mark.parametrize("location", ["../x", "sub/../../x", "/etc/hostname"])
def test_external_data_outside_the_folder(tmp_path: Path, capsys: Capture, location: str) -> None:
    model = small_model(tmp_path / "inside", external=True)
    (tmp_path / "x").write_bytes((tmp_path / "inside/small.onnx.data").read_bytes())
    proto = onnx.load_model(model, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    model.write_bytes(proto.SerializeToString())
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "min")
    assert location in error


def test_a_budget_below_the_least(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    for command in ("plan", "run"):
        error = refused(tmp_path, capsys, command, str(model), *ON_PAPER, "--budget", "1kB")
        assert "a budget of 1.0 kB is too small: the least feasible one is" in error
        assert "set by layer" in error
        assert "hint: --budget min" in error


def test_an_unknown_device(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    error = refused(
        tmp_path, capsys, "run", str(model), *BATCH, "--budget", "min", "--device", "ocl:77"
    )
    assert "there is no device 'ocl:77'" in error
    assert "sim:adreno750" in error


def test_dimensions_without_a_value(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    error = refused(tmp_path, capsys, "plan", str(model), "--device", "sim:pocl", "--budget", "min")
    assert "--dim batch=N" in error


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, WIDTH + 1), np.float32), f"{WIDTH + 1}"),
        (np.zeros((2, WIDTH, 1), np.float32), "dimensions"),
        (np.zeros((3, WIDTH), np.float32), "batch"),
        (np.zeros((2, WIDTH), np.float64), "float64"),
        (np.zeros((2, WIDTH), np.int32), "int32"),
    ],
)
def test_inputs_that_do_not_fit(
    tmp_path: Path, capsys: Capture, array: np.ndarray, message: str
) -> None:
    model = small_model(tmp_path)
    np.save(tmp_path / "x.npy", array)
    error = refused(
        tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "min", "--input", "x=x.npy"
    )
    assert "'x'" in error
    assert message in error


def test_inputs_that_are_not_there(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((2, WIDTH), np.float32))
    command = ["run", str(model), *ON_PAPER, "--budget", "min", "--input"]
    assert "there is no file none.npy" in refused(tmp_path, capsys, *command, "x=none.npy")
    assert "no input named 'z'" in refused(tmp_path, capsys, *command, "z=x.npy")


def test_the_name_of_an_input_may_hold_an_equals_sign(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    command = ["run", str(model), *ON_PAPER, "--budget", "min", "--input", "a=b=none.npy"]
    assert "input 'a=b': there is no file none.npy" in refused(tmp_path, capsys, *command)


@pytest.mark.parametrize(
    ("path", "message"),
    [("none.fmb", "there is no bundle file none.fmb"), (".", ". is a folder")],
)
def test_what_cannot_be_run_is_told_first(
    tmp_path: Path, capsys: Capture, path: str, message: str
) -> None:
    assert message in refused(tmp_path, capsys, "run", path)


def test_a_budget_beyond_all_memory(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    huge = "9999999999999999999999TB"
    assert main(["run", str(model), *ON_PAPER, "--budget", huge]) == 0


def test_a_plan_for_another_model(tmp_path: Path, capsys: Capture) -> None:
    model, other = small_model(tmp_path), small_model(tmp_path, name="other")
    assert main(["plan", str(other), *ON_PAPER, "--budget", "30%", "-o", "other.json"]) == 0
    capsys.readouterr()
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--plan", "other.json")
    assert "'other'" in error
    assert "'small'" in error
    # The same model with other shapes is another program.
    shapes = ["--device", "sim:pocl", "--dim", "batch=7"]
    error = refused(tmp_path, capsys, "run", str(other), *shapes, "--plan", "other.json")
    assert "other shapes" in error
    bundle = ["bundle", str(model), *ON_PAPER, "--plan", "other.json", "-o", "m.fmb"]
    assert "another model" in refused(tmp_path, capsys, *bundle)


def test_a_damaged_plan(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    assert main(["plan", str(model), *ON_PAPER, "--budget", "30%", "-o", "p.json"]) == 0
    plan = Path("p.json").read_text()
    for damaged in (
        plan[:100],
        "[]",
        plan.replace("budget_bytes", "budget"),
        plan.replace('"chunks": 1', '"chunks": 2'),
        plan.replace('"load_at": 0', '"load_at": 99'),
    ):
        assert damaged != plan
        Path("p.json").write_text(damaged)
        capsys.readouterr()
        refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--plan", "p.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_a_plan_with_impossible_times(tmp_path: Path, capsys: Capture, number: float) -> None:
    model = small_model(tmp_path)
    assert main(["plan", str(model), *ON_PAPER, "--budget", "30%", "-o", "p.json"]) == 0
    plan = json.loads(Path("p.json").read_text())
    Path("p.json").write_text(json.dumps({**plan, "solve_ms": number}))
    capsys.readouterr()
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--plan", "p.json")
    assert "$.solve_ms" in error


def test_an_unknown_weight_is_told_with_where_they_are_listed(
    tmp_path: Path, capsys: Capture
) -> None:
    model = small_model(tmp_path)
    command = ["plan", str(model), *ON_PAPER, "--budget", "min", "--preload", "none"]
    assert "inspect MODEL --layers --json" in refused(tmp_path, capsys, *command)


def test_a_damaged_bundle(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    assert main(["bundle", str(model), *ON_PAPER, "--budget", "30%", "-o", "m.fmb"]) == 0
    whole = Path("m.fmb").read_bytes()
    for damaged in (whole[:50], whole[: len(whole) // 2], whole[:100] + b"?" + whole[101:]):
        Path("m.fmb").write_bytes(damaged)
        capsys.readouterr()
        refused(tmp_path, capsys, "run", "m.fmb")


def test_a_damaged_cache_header_is_made_anew(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    command = ["run", str(model), *ON_PAPER, "--budget", "30%"]
    assert main(command) == 0
    (packed,) = (tmp_path / "cache").glob("*.fmw")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-10])
    assert main(command) == 0
    assert packed.read_bytes() == whole


def test_a_damaged_cache_is_made_anew_for_a_bundle(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path)
    command = ["bundle", str(model), *ON_PAPER, "--budget", "30%", "-o"]
    assert main([*command, "a.fmb"]) == 0
    (packed,) = (tmp_path / "cache").glob("*.fmw")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:])
    assert main([*command, "b.fmb"]) == 0
    assert "it was made anew" in capsys.readouterr().err
    assert packed.read_bytes() == whole
    assert Path("a.fmb").read_bytes() == Path("b.fmb").read_bytes()


def test_a_disk_without_room(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path)
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100))  # type: ignore[attr-defined]
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "30%")
    assert "packing weights needs" in error
    assert "FLASHMEM_LAB_CACHE" in error


def test_a_disk_that_fills_while_packing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashmem_lab.program import pack

    model = small_model(tmp_path)
    (tmp_path / "cache").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack, "_write_header", full)  # after all of the data
    error = refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "30%")
    assert "the disk is full while packing weights" in error


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path)
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", "/proc/flashmem")
    refused(tmp_path, capsys, "run", str(model), *ON_PAPER, "--budget", "30%")
