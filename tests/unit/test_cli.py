import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flashmem_lab
from flashmem_lab.cli import main, parser
from flashmem_lab.cli.console import print_json
from flashmem_lab.device import Transport
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.plan import Objective, Strategy
from flashmem_lab.runtime.pagecache import PageCache
from tests.unit.small_models import WIDTH, small_model

Capture = pytest.CaptureFixture[str]
ON_PAPER = ["--device", "sim:pocl", "--dim", "batch=2"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(small_model(tmp_path / "models"))


def json_of(capsys: Capture, *argv: str) -> dict[str, Any]:
    """Runs a command with --json and checks that its stdout is one object with a schema."""
    capsys.readouterr()
    code = main([*argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    data = json.loads(out)
    assert data["schema"].startswith("flashmem-lab/")
    return dict(data)


def test_json_has_null_for_what_is_no_number(capsys: Capture) -> None:
    print_json({"a": float("nan"), "b": [1.5, (float("inf"), 2)], "c": "x"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, [None, 2]], "c": "x"}


# --- bad usage and help --------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["zoo"],
        ["run"],
        ["plan", "m.onnx"],
        ["plan", "m.onnx", "--budget", "lots"],
        ["plan", "m.onnx", "--budget", "101%"],
        ["run", "m.onnx", "--budget", "min", "--plan", "p.json"],
        ["run", "m.onnx", "--budget", "min", "--repeat", "0"],
        ["run", "m.onnx", "--budget", "9" * 400],
        ["run", "m.onnx", "--budget", "min", "--seed", "-1"],
        ["run", "m.onnx", "--budget", "min", "--dim", "batch"],
        ["run", "m.onnx", "--budget", "min", "--dim", "batch=0"],
        ["run", "m.onnx", "--budget", "min", "--shape", "x=1xAx3"],
        ["run", "m.onnx", "--budget", "min", "--input", "x"],
        ["run", "m.onnx", "--budget", "min", "--trace", "trace.txt"],
        ["run", "m.onnx", "--budget", "min", "--transport", "by hand"],
        ["bundle", "m.onnx", "-o", "m.fmb"],
        ["run", "m.onnx"],
    ],
)
def test_bad_usage_ends_with_2(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert "usage: flashmem-lab" in err


@pytest.mark.parametrize(
    "command",
    [
        "",
        "doctor",
        "devices",
        "inspect",
        "plan",
        "run",
        "bundle",
        "zoo list",
        "zoo make",
        "lab",
        "bench",
        "sweep",
    ],
)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: {' '.join(['flashmem-lab', *command.split()])}" in text
    assert not command or "--json" in text


def test_choices_are_those_of_the_values() -> None:
    assert tuple(Strategy) == parser.STRATEGIES
    assert tuple(Objective) == parser.OBJECTIVES
    assert tuple(Precision) == parser.PRECISIONS
    assert set(parser.TRANSPORTS) == set(Transport)
    assert {*parser.STORAGES} == {Storage.IMAGE2D, Storage.BUFFER, "auto"}
    assert {*parser.PAGE_CACHES} == {*PageCache}


@pytest.mark.parametrize("statement", ["import flashmem_lab", "import flashmem_lab.workflow"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    heavy = "onnx onnx_ir onnxscript onnxruntime pyopencl plotly ipywidgets jinja2 rich scipy"
    code = f"{statement}; import sys; print(*set({heavy.split()!r}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("part", ["", ".graph", ".lower", ".plan", ".program", ".trace"])
def test_packages_give_lazily_what_they_list(part: str) -> None:
    package = import_module(f"flashmem_lab{part}")
    modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
    for name in modules & set(package.__all__):  # a module would hide what has its name
        import_module(f"{package.__name__}.{name}")
    for name in package.__all__:
        assert not isinstance(getattr(package, name), ModuleType), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def test_help_loads_not_even_numpy() -> None:
    code = (
        "import sys; from flashmem_lab.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_public_names_are_sorted_and_there() -> None:
    assert flashmem_lab.__all__ == sorted(flashmem_lab.__all__)
    for name in flashmem_lab.__all__:
        assert getattr(flashmem_lab, name).__name__ == name
    assert dir(flashmem_lab) == flashmem_lab.__all__
    with pytest.raises(AttributeError, match="'flashmem_lab' has no attribute 'nothing'"):
        flashmem_lab.nothing  # noqa: B018


# --- commands ------------------------------------------------------------------------------


def test_devices(capsys: Capture) -> None:
    data = json_of(capsys, "devices")
    assert data["schema"] == "flashmem-lab/devices/1"
    ids = {device["id"]: device for device in data["devices"]}
    assert ids["sim:adreno750"]["works"]
    assert ids["sim:adreno750"]["limits"]["image_width"] == 16384
    assert main(["devices"]) == 0
    assert "sim:adreno750" in capsys.readouterr().out


def test_doctor_says_what_works(capsys: Capture) -> None:
    code = main(["doctor", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "flashmem-lab/doctor/1"
    assert code == (0 if data["works"] else 1)
    whats = {finding["what"]: finding for finding in data["findings"]}
    assert whats["weight cache"]["state"] == "ok"
    assert whats["kernel templates"]["state"] == "ok"
    assert all(f["mend"] for f in data["findings"] if f["state"] != "ok")


def test_doctor_without_a_working_device(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from flashmem_lab import workflow

    spec = workflow.open_device("sim:pocl")
    listed = [workflow.DeviceState(replace(spec, id="ocl:0"), "unknown target CPU 'generic'")]
    monkeypatch.setattr(workflow, "devices", lambda: listed)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "unknown target CPU 'generic'" in out
    assert "pocl-opencl-icd" in out
    monkeypatch.setattr(workflow, "devices", list)
    assert main(["doctor", "--quick"]) == 1
    assert "no device" in capsys.readouterr().out


def test_doctor_tells_of_a_cache_that_cannot_be_written(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", "/proc/flashmem")
    main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    cache = next(finding for finding in findings if finding["what"] == "weight cache")
    assert cache["state"] == "broken"
    assert "FLASHMEM_LAB_CACHE" in cache["mend"]


@pytest.mark.parametrize("cache", ["x" * 5000, "file", "file/cache"])
def test_doctor_survives_a_cache_that_is_no_folder(
    cache: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", cache)
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = (finding for finding in findings if finding["what"] == "weight cache")
    assert found["state"] == "broken"
    assert ("is not a folder" in found["detail"]) is cache.startswith("file")


def test_doctor_names_a_library_that_is_not_there(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashmem_lab import workflow

    (tmp_path / "gone.icd").write_text("/nowhere/libgone.so\n")
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    monkeypatch.setattr(workflow, "devices", list)
    assert main(["doctor", "--quick", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = (finding for finding in findings if finding["what"] == "OpenCL gone.icd")
    assert found["state"] == "broken"
    assert "/nowhere/libgone.so" in found["detail"]


def test_inspect(model: str, capsys: Capture) -> None:
    data = json_of(capsys, "inspect", model, *ON_PAPER, "--layers")
    assert data["params"] == 3 * WIDTH * WIDTH
    assert data["macs"] == pytest.approx(2 * 3 * WIDTH * WIDTH, rel=0.02)
    assert data["inputs"] == {"x": ["float32", [2, WIDTH]]}
    assert data["unsupported"] == []
    assert len(data["layer_list"]) == data["layers"]
    assert main(["inspect", model, *ON_PAPER, "--layers"]) == 0
    text = capsys.readouterr().out
    assert "opset 17, 5 nodes" in text
    assert "third" in text


def test_plan_then_run_it(model: str, capsys: Capture) -> None:
    plan = json_of(capsys, "plan", model, *ON_PAPER, "--budget", "50%", "-o", "plan.json")
    wanted = (
        "model device strategy optimize budget_bytes min_budget_bytes preload_peak_bytes status "
        "tier objective bound gap solve_ms first_plan_ms preloaded_bytes streamed_bytes predicted "
        "layers weights undone_fusions"
    )
    assert set(wanted.split()) <= plan.keys()
    assert plan["status"] in ("OPTIMAL", "FEASIBLE", "GREEDY")
    ran = json_of(capsys, "run", model, "--dim", "batch=2", "--plan", "plan.json")
    assert ran["device"] == "sim:pocl", "the plan's own"
    assert ran["budget_bytes"] == plan["budget_bytes"]
    assert ran["peak_bytes"]["total"] == plan["predicted"]["peak_bytes"]
    wanted = (
        "model device strategy precision budget_bytes weight_bytes preloaded_bytes streamed_bytes "
        "peak_bytes average_bytes host_rss_peak_bytes cold_ms first_run_ms warm_ms stall_ms "
        "predicted check preload_peak_bytes min_budget_bytes"
    )
    assert set(wanted.split()) <= ran.keys()
    assert main(["plan", model, *ON_PAPER, "--budget", "50%"]) == 0
    assert "full preload" in capsys.readouterr().out
    assert main(["run", model, *ON_PAPER, "--budget", "50%", "--repeat", "2"]) == 0
    assert "streamed by map" in capsys.readouterr().out


def test_demands_and_prices_reach_the_plan(model: str, capsys: Capture) -> None:
    planning = ["plan", model, *ON_PAPER, "--budget", "60%", "--strategy", "lc-opg"]
    free = json_of(capsys, *planning, "--optimize", "memory")
    assert free["gap"] <= 0.05
    assert (free["lambda_"], free["mu"], free["undone_fusions"]) == (0.9, 0.1, [])
    names = [weight["weight"] for weight in free["streamed"]] + free["preloaded"]
    demands = ["--preload", names[0], "--stream", names[1], "--lambda", "0.5", "--mu", "0.2"]
    tried = ["--time-limit", "2", "--workers", "1"]
    made = json_of(capsys, *planning, *demands, *tried, "-o", "plan.json")
    assert names[0] in made["preloaded"]
    assert names[1] not in made["preloaded"]
    assert (made["lambda_"], made["mu"], made["strategy"]) == (0.5, 0.2, "lc-opg")
    run = ["run", model, *ON_PAPER, "--plan", "plan.json"]
    assert json_of(capsys, *run)["peak_bytes"]["total"] <= made["budget_bytes"]
    assert main([*run, "--time-limit", "3"]) == 1
    assert "for making a plan" in capsys.readouterr().err
    last = free["streamed"][-1] if free["streamed"] else made["streamed"][-1]
    window = f"{last['weight']}=0:{last['first_use']}"
    at = json_of(capsys, "plan", model, *ON_PAPER, "--budget", "30%", "--window", window)
    assert at["constraints"]["windows"][0]["weight"] == last["weight"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--window", "w"], ["--window", "w=3"], ["--window", "w=5:3"], ["--lambda", "2"],
        ["--mu", "x"], ["--time-limit", "0"], ["--time-limit", "inf"], ["--workers", "0"],
    ],
)  # fmt: skip
def test_wrong_demands_are_bad_usage(wrong: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "m.onnx", "--budget", "min", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


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


def test_a_report_of_a_queue(model: str, capsys: Capture) -> None:
    asked = ["queue", model, model, "--dim", "batch=2", "--budget", "50%"]
    asked += ["--device", "sim:adreno750", "--html", "queue.html"]
    figures = json_of(capsys, *asked)
    report = Path("queue.html").read_text("utf-8")
    assert report.startswith("<!DOCTYPE html>")
    assert report.count(figures["models"][0]["model"]) >= 2
    json_of(capsys, *asked)  # its own report may be replaced
    Path("queue.html").write_text("somebody's notes", "utf-8")
    assert main(asked) == 1
    assert "queue.html" in capsys.readouterr().err


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


def test_options_that_contradict_a_plan(model: str, capsys: Capture) -> None:
    json_of(capsys, "plan", model, *ON_PAPER, "--budget", "min", "-o", "plan.json")
    again = ["run", model, *ON_PAPER, "--plan", "plan.json"]
    for extra in (
        ["--strategy", "preload"],
        ["--transport", "copy"],
        ["--optimize", "warm"],
        ["--preload", "w0"],
        ["--precision", "fp16"],
        ["--device", "sim:adreno750"],
    ):
        assert main([*again, *extra]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("error: ")
    assert main([*again, "--strategy", "greedy"]) == 0


def test_plan_for_fp16_needs_half(model: str, capsys: Capture) -> None:
    sizes = [
        json_of(capsys, "plan", model, *ON_PAPER, "--budget", "min", "--precision", precision)
        for precision in ("fp32", "fp16")
    ]
    full, half = (size["preloaded_bytes"] + size["streamed_bytes"] for size in sizes)
    assert half == pytest.approx(full / 2, rel=0.1)


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
    for extra in (["--budget", "min"], ["--check"], ["--dim", "batch=2"], ["--precision", "fp16"]):
        with pytest.raises(SystemExit) as caught:
            main(["run", "m.fmb", *extra])
        assert caught.value.code == 2
    np.save(tmp_path / "x.npy", np.zeros((3, WIDTH), np.float32))
    capsys.readouterr()


def test_zoo(tmp_path: Path, capsys: Capture) -> None:
    names = [entry["name"] for entry in json_of(capsys, "zoo", "list")["models"]]
    assert {"resnet50", "vit", "gptneo-small"} <= set(names)
    assert main(["zoo", "list"]) == 0
    assert "resnet50" in capsys.readouterr().out
    assert main(["zoo", "make", "nothing", "-o", str(tmp_path)]) == 1
    assert "no model 'nothing'" in capsys.readouterr().err


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


def test_interrupting_is_quiet(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashmem_lab import workflow

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "load", interrupt)
    assert main(["inspect", model, *ON_PAPER]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_package_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    for name in [n for n in sys.modules if n.startswith("flashmem_lab.runtime.opencl")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["devices"]) == 1
    err = capsys.readouterr().err
    assert "pyopencl" in err
    assert "hint: pip install" in err


@pytest.mark.parametrize("root", [True, False])
def test_lab_becomes_jupyter_on_the_first_notebook(
    root: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def become(_program: str, command: list[str]) -> None:
        started.append(command)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", become)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    with pytest.raises(SystemExit):
        main(["lab", "--no-browser", "--port", "9123"])
    (command,) = started
    assert command[1:3] == ["-m", "jupyterlab"]
    assert "--port=9123" in command
    assert ("--allow-root" in command) == root
    assert Path(command[-1]).name == "01_first_look.ipynb"
