import io
import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import onnx
import pytest

import flashmem_lab
from flashmem_lab import workflow
from flashmem_lab.cli import main, parser
from flashmem_lab.cli.common import planned
from flashmem_lab.cli.console import print_json
from flashmem_lab.device import Transport
from flashmem_lab.lower import Precision, Storage
from flashmem_lab.plan import Objective, Strategy
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.runtime.pagecache import PageCache
from tests.unit.cli_calls import ON_PAPER, Capture, json_of
from tests.unit.small_models import WIDTH, small_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(small_model(tmp_path / "models"))


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
    assert {*parser.LAUNCHES} == {*Launching}


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
    at = json_of(
        capsys, "plan", model, *ON_PAPER, "--budget", "30%", "--window", window, "--chunk", "256KiB"
    )
    assert at["chunk_bytes"] == 1 << 18
    assert at["constraints"]["windows"][0]["weight"] == last["weight"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--window", "w"], ["--window", "w=3"], ["--window", "w=5:3"], ["--lambda", "2"],
        ["--mu", "x"], ["--time-limit", "0"], ["--time-limit", "inf"], ["--workers", "0"],
        ["--chunk", "much"], ["--chunk", "0"],
    ],
)  # fmt: skip
def test_wrong_demands_are_bad_usage(wrong: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "m.onnx", "--budget", "min", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


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
        ["--lambda", "0"],
    ):
        assert main([*again, *extra]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("error: ")
    assert main([*again, "--strategy", "greedy"]) == 0


def test_a_plan_from_a_file_was_not_made_now(model: str, capsys: Capture) -> None:
    json_of(capsys, "plan", model, *ON_PAPER, "--budget", "min", "-o", "plan.json")
    plan = json.loads(Path("plan.json").read_text())
    Path("plan.json").write_text(json.dumps({**plan, "solve_ms": 1e9}))
    options = parser.build_parser().parse_args(["run", model, *ON_PAPER, "--plan", "plan.json"])
    assert planned(options).plan_ms < 1e6


def test_inspect_lists_what_nothing_can_run(tmp_path: Path, capsys: Capture) -> None:
    node = onnx.helper.make_node("Fancy", ["x"], ["y"], domain="com.me")
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy")
    opsets = [onnx.helper.make_opsetid(*one) for one in (("", 17), ("com.me", 1))]
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "odd.onnx")
    assert main(["inspect", "odd.onnx", "--device", "sim:pocl", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["unsupported"] == ["com.me::Fancy (y)"]
    assert "com.me::Fancy" in err


def test_plan_for_fp16_needs_half(model: str, capsys: Capture) -> None:
    sizes = [
        json_of(capsys, "plan", model, *ON_PAPER, "--budget", "min", "--precision", precision)
        for precision in ("fp32", "fp16")
    ]
    full, half = (size["preloaded_bytes"] + size["streamed_bytes"] for size in sizes)
    assert half == pytest.approx(full / 2, rel=0.1)


def test_zoo(tmp_path: Path, capsys: Capture) -> None:
    names = [entry["name"] for entry in json_of(capsys, "zoo", "list")["models"]]
    assert {"resnet50", "vit", "gptneo-small"} <= set(names)
    assert main(["zoo", "list"]) == 0
    assert "resnet50" in capsys.readouterr().out
    assert main(["zoo", "make", "nothing", "-o", str(tmp_path)]) == 1
    assert "no model 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_takes_what_is_printed(
    closed: str, model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, closed, None)
    assert main(["plan", model, *ON_PAPER, "--budget", "1"]) == 1
    assert main(["plan", model, *ON_PAPER, "--budget", "min"]) == 0
    getattr(sys, closed).close()
    out, err = capsys.readouterr()
    assert ("too small" in err) == (closed == "stdout")
    assert "too small" not in out, "errors are not among results"


def test_names_are_printed_on_a_terminal_of_few_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", few)
    assert main(["inspect", str(small_model(tmp_path, name="modèle")), *ON_PAPER]) == 0
    assert rb"mod\xe8le" in few.buffer.getvalue()  # type: ignore[attr-defined]


def test_interrupting_is_quiet(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "load", interrupt)
    assert main(["inspect", model, *ON_PAPER]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_too_little_memory_is_a_message(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 256. PiB")

    monkeypatch.setattr(workflow, "load", give_up)
    assert main(["inspect", model, *ON_PAPER]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: this machine has not the memory for that: Unable to allocate")
    assert "hint: " in error


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


@pytest.mark.parametrize(
    ("arguments", "code", "out", "error"),
    [
        (["run", "missing.onnx", "--budget", "30%"], 1, "", "error: "),
        (["run", "--help"], 0, "--budget", ""),
        (["run"], 2, "", "usage"),
        (["inspect", "missing.onnx"], 1, "", "missing.onnx"),
    ],
)
def test_a_process_ends_with_its_code_and_all_it_said(
    arguments: list[str], code: int, out: str, error: str
) -> None:
    command = [sys.executable, "-m", "flashmem_lab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert out in done.stdout
    assert error in done.stderr
    assert "Traceback" not in done.stderr
