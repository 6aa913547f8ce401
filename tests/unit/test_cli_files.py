"""Files that commands write: traces, reports, bundles; and which ones they leave alone."""

import json
from pathlib import Path

import pytest

from flashmem_lab.cli import main
from tests.unit.cli_calls import ON_PAPER, Capture, json_of
from tests.unit.small_models import small_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(small_model(tmp_path / "models"))


def test_traces_and_report(model: str, tmp_path: Path, capsys: Capture) -> None:
    for name in ("t.pftrace", "t.json", "t.csv"):
        extra = ["--trace", name] + (["--html", "r.html"] if name == "t.json" else [])
        json_of(capsys, "run", model, *ON_PAPER, "--budget", "30%", *extra)
        assert (tmp_path / name).stat().st_size > 100
    assert json.loads((tmp_path / "t.json").read_text())
    assert "<html" in (tmp_path / "r.html").read_text().lower()


def test_a_simulated_run_has_no_outputs_to_save(
    model: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["run", model, *ON_PAPER, "--budget", "30%", "--output", "o"]) == 1
    assert "no outputs" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_bundle(model: str, tmp_path: Path, capsys: Capture) -> None:
    made = json_of(capsys, "bundle", model, *ON_PAPER, "--budget", "30%", "-o", "m.fmb")
    assert made["bytes"] == (tmp_path / "m.fmb").stat().st_size
    Path(model).unlink()
    ran = json_of(capsys, "run", "m.fmb", "--repeat", "2")
    assert ran["device"] == "sim:pocl"
    assert ran["budget_bytes"] == made["budget_bytes"]
    assert ran["check"] is None


@pytest.mark.parametrize(
    "extra",
    [
        ["--budget", "min"],
        ["--check"],
        ["--dim", "batch=2"],
        ["--precision", "fp16"],
        ["--preload", "w0"],
        ["--storage", "buffer"],
        # How to make a plan is no question any more either.
        ["--stream", "w0"],
        ["--window", "w0=0:0"],
        ["--lambda", "0"],
        ["--time-limit", "1"],
        ["--split-fused"],
    ],
)
def test_a_bundle_takes_no_options_of_planning(
    extra: list[str], model: str, capsys: Capture
) -> None:
    json_of(capsys, "bundle", model, *ON_PAPER, "--budget", "30%", "-o", "m.fmb")
    with pytest.raises(SystemExit) as caught:
        main(["run", "m.fmb", *extra])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert f"leave {extra[0]} out" in err or "--check compares with the model" in err


@pytest.mark.parametrize("command", ["plan", "bundle", "queue"])
def test_only_run_takes_a_bundle(command: str, model: str, capsys: Capture) -> None:
    json_of(capsys, "bundle", model, *ON_PAPER, "--budget", "30%", "-o", "m.fmb")
    output = ["-o", "n.fmb"] if command == "bundle" else []
    assert main([command, "m.fmb", "--device", "sim:pocl", "--budget", "min", *output]) == 1
    assert "m.fmb is a bundle, planned already" in capsys.readouterr().err


def test_what_a_command_reads_it_does_not_replace(model: str, capsys: Capture) -> None:
    before = Path(model).read_bytes()
    assert main(["plan", model, *ON_PAPER, "--budget", "min", "-o", model]) == 1
    assert main(["bundle", model, *ON_PAPER, "--budget", "min", "-o", model]) == 1
    assert main(["run", model, *ON_PAPER, "--budget", "min", "--html", model]) == 1
    assert "is read by this command" in capsys.readouterr().err
    assert main(["run", model, *ON_PAPER, "--budget", "min", "--html", "models"]) == 1
    assert "is a folder" in capsys.readouterr().err
    assert Path(model).read_bytes() == before


def test_files_of_weights_are_not_replaced(tmp_path: Path, capsys: Capture) -> None:
    model = small_model(tmp_path, external=True)
    data = tmp_path / "small.onnx.data"
    (tmp_path / "w.json").hardlink_to(data)
    (tmp_path / "link").symlink_to(data)
    before = data.read_bytes()
    for extra in (["--html", data.name], ["--html", "link"], ["--trace", "w.json"]):
        assert main(["run", str(model), *ON_PAPER, "--budget", "min", *extra]) == 1
        assert "left alone" in capsys.readouterr().err
    data.write_bytes(b"<!DOCTYPE html>" + before[15:])
    before = data.read_bytes()
    assert main(["run", str(model), *ON_PAPER, "--budget", "min", "--html", data.name]) == 1
    for command in ("plan", "bundle"):
        assert main([command, str(model), *ON_PAPER, "--budget", "min", "-o", data.name]) == 1
    assert capsys.readouterr().err.count("is read by this command") == 3
    assert data.read_bytes() == before
    assert not (tmp_path / "cache").exists(), "refused before any work"


@pytest.mark.parametrize("name", ["t.json", "t.csv", "t.pftrace", "r.html"])
def test_only_own_traces_and_reports_are_replaced(
    name: str, model: str, tmp_path: Path, capsys: Capture
) -> None:
    option = "--html" if name == "r.html" else "--trace"
    command = ["run", model, *ON_PAPER, "--budget", "min", option, name]
    for content in ('{"precious": 1}', "precious,1\n", "\nprecious"):
        (tmp_path / name).write_text(content)
        assert main(command) == 1
        assert "left alone" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == content
    (tmp_path / name).unlink()
    assert main(command) == 0
    assert main(command) == 0, "its own file is replaced"


def test_a_target_is_written_once(model: str, tmp_path: Path, capsys: Capture) -> None:
    command = ["run", model, *ON_PAPER, "--budget", "min", "--trace", "x.json"]
    assert main([*command, "--html", "./x.json"]) == 1
    assert main([*command, "--output", "x.json"]) == 1
    assert capsys.readouterr().err.count("written twice") == 2
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("option", [["plan", "-o"], ["run", "--html"], ["bundle", "-o"]])
def test_a_device_is_no_file_to_write(option: list[str], model: str, capsys: Capture) -> None:
    command, name = option
    # Before anything is read: /dev/zero has no end.
    assert main([command, model, *ON_PAPER, "--budget", "min", name, "/dev/null"]) == 1
    assert "/dev/null is no file" in capsys.readouterr().err


def test_a_profile_does_not_replace_what_is_none(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.json").write_text("{}")
    # No such device either, which is looked for next: nothing is measured first.
    assert main(["profile", "--device", "sim:none", "-o", "mine.json"]) == 1
    assert "is not a device profile; it is left alone" in capsys.readouterr().err
    assert (tmp_path / "mine.json").read_text() == "{}"


@pytest.mark.parametrize("target", ["t.json", "t.pftrace", "t.csv", "r.html"])
def test_names_that_are_no_text_can_be_written_of(
    target: str, tmp_path: Path, capsys: Capture
) -> None:
    model = small_model(tmp_path).rename(tmp_path / "odd\udcff.onnx")
    option = "--html" if target == "r.html" else "--trace"
    ran = json_of(capsys, "run", str(model), *ON_PAPER, "--budget", "min", option, target)
    assert ran["model"] == "odd\\udcff"
    assert (tmp_path / target).stat().st_size > 100
