import errno
import json
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab import workflow
from flashmem_lab.arrays import compare, output_files, read_inputs, save_outputs
from flashmem_lab.device import Transport
from flashmem_lab.errors import (
    BudgetTooSmall,
    CacheCorrupt,
    DeviceError,
    DiskFull,
    FlashMemError,
    InputError,
    PlanError,
    UsageError,
)
from flashmem_lab.lower import Precision
from flashmem_lab.lower.layer import Port
from flashmem_lab.plan import Strategy
from flashmem_lab.runtime.simulated import SimulatedRuntime
from flashmem_lab.samples import page, sample_inputs
from flashmem_lab.units import Budget
from tests.unit.small_models import WIDTH, small_model

BATCH = 3


@pytest.fixture
def prepared(tmp_path: Path) -> workflow.Prepared:
    model = small_model(tmp_path / "model")
    return workflow.load(model, device=workflow.open_device("sim:pocl"), dims={"batch": BATCH})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))


# --- devices -------------------------------------------------------------------------------


def test_an_unknown_device_is_told_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="no device 'ocl:99'") as caught:
        workflow.open_device("ocl:99")
    assert "sim:adreno750" in caught.value.hint


def test_simulated_devices_are_always_there() -> None:
    states = workflow.devices()
    assert {"sim:adreno750", "sim:pocl"} <= {state.spec.id for state in states if not state.problem}


# --- plans ---------------------------------------------------------------------------------


def test_a_plan_keeps_its_budget_and_survives_its_file(
    prepared: workflow.Prepared, tmp_path: Path
) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=0.5))
    assert plan.min_budget_bytes < plan.predicted.peak_bytes <= plan.budget_bytes
    path = tmp_path / "plan.json"
    workflow.save_plan(plan, path)
    assert workflow.load_plan(path) == plan
    workflow.save_plan(plan, path)  # its own kind of file is replaced


def test_the_printed_plan_is_a_plan_file_too(prepared: workflow.Prepared, tmp_path: Path) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=0.5))
    document = workflow.plan_document(plan, prepared.model)
    held = sum(weight.device_bytes for weight in prepared.model.weights.values())
    assert document["preloaded_bytes"] + document["streamed_bytes"] == held
    assert document["layers"] == len(prepared.model.layers)
    path = tmp_path / "printed.json"
    path.write_text(json.dumps(document))
    assert workflow.load_plan(path) == plan


def test_a_file_that_is_no_plan_is_neither_read_nor_replaced(
    prepared: workflow.Prepared, tmp_path: Path
) -> None:
    path = tmp_path / "notes.json"
    path.write_text('{"mine": 1}')
    with pytest.raises(PlanError, match="not a plan"):
        workflow.load_plan(path)
    with pytest.raises(UsageError, match="left alone"):
        workflow.save_plan(workflow.make_plan(prepared, budget=Budget(share=0.0)), path)
    assert path.read_text() == '{"mine": 1}'
    with pytest.raises(PlanError, match="there is no plan file"):
        workflow.load_plan(tmp_path / "none.json")
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(PlanError, match="not JSON"):
        workflow.load_plan(path)


def test_too_small_a_budget_names_the_layer(prepared: workflow.Prepared) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        workflow.make_plan(prepared, budget=Budget(bytes=1000))
    assert caught.value.layer in {layer.name for layer in prepared.model.layers}
    workflow.make_plan(prepared, budget=Budget(bytes=caught.value.needed))


# --- runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("transport", [Transport.MAP, Transport.COPY])
def test_a_simulated_run_has_every_figure(
    prepared: workflow.Prepared, share: float, transport: Transport
) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=share), transport=transport)
    figures = workflow.run(prepared, plan, repeat=3).to_json()
    assert figures["schema"] == "flashmem-lab/run/1"
    assert figures["peak_bytes"]["total"] == figures["predicted"]["peak_bytes"]
    assert figures["peak_bytes"]["total"] <= figures["budget_bytes"]
    assert figures["peak_bytes"]["staging"] == plan.staging_bytes
    assert figures["weight_bytes"] == figures["preloaded_bytes"] + figures["streamed_bytes"]
    assert figures["weight_bytes"] >= 3 * WIDTH * WIDTH * 4
    assert len(figures["warm_ms"]) == 2
    assert figures["cold_ms"] == pytest.approx(plan.predicted.cold_ms, rel=1e-3)
    assert figures["check"] is None
    json.dumps(figures, allow_nan=False)


def test_preload_streams_nothing(prepared: workflow.Prepared) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=1.0), strategy=Strategy.PRELOAD)
    outcome = workflow.run(prepared, plan)
    assert outcome.streamed_bytes == 0
    assert outcome.result.peak_bytes["total"] == plan.preload_peak_bytes


def test_a_plan_of_another_model_is_refused_before_packing(
    prepared: workflow.Prepared, tmp_path: Path
) -> None:
    other = workflow.load(
        small_model(tmp_path / "other", name="other"), device=prepared.device, dims={"batch": BATCH}
    )
    plan = workflow.make_plan(other, budget=Budget(share=0.3))
    with pytest.raises(PlanError, match="another model"):
        workflow.run(prepared, plan)
    halved = workflow.load(
        prepared.graph.path,
        device=prepared.device,
        precision=Precision.FP16,
        dims={"batch": BATCH},
    )
    with pytest.raises(PlanError, match="fp16"):
        workflow.run(halved, workflow.make_plan(prepared, budget=Budget(share=0.3)))
    assert not (tmp_path / "cache").exists()


def test_inputs_that_do_not_fit_are_refused_before_packing(
    prepared: workflow.Prepared, tmp_path: Path
) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    for wrong in (
        {"x": np.zeros((BATCH, WIDTH + 1), np.float32)},
        {"x": np.zeros((BATCH, WIDTH), np.float64)},
        {"z": np.zeros((BATCH, WIDTH), np.float32)},
    ):
        with pytest.raises(InputError):
            workflow.run(prepared, plan, wrong)
    assert not (tmp_path / "cache").exists()


def test_a_simulated_device_has_nothing_to_check(prepared: workflow.Prepared) -> None:
    with pytest.raises(UsageError, match="computes nothing"):
        workflow.run(prepared, workflow.make_plan(prepared, budget=Budget(share=0.3)), check=True)


def test_a_damaged_cache_is_made_anew_once(
    prepared: workflow.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    packed = workflow.compile_plan(prepared, plan).packed
    whole = packed.path.read_bytes()
    damaged = bytearray(whole)
    damaged[next(iter(packed.spans.values())).offset] ^= 1
    packed.path.write_bytes(damaged)
    real, calls = SimulatedRuntime.run, []

    def damaged_at_first(self, program, weights, *args, **keywords):  # type: ignore[no-untyped-def]
        calls.append(weights)
        if len(calls) == 1:
            raise CacheCorrupt(weights, "w1")
        return real(self, program, weights, *args, **keywords)

    monkeypatch.setattr(SimulatedRuntime, "run", damaged_at_first)
    said: list[str] = []
    outcome = workflow.run(prepared, plan, say=said.append)
    assert said == list(outcome.notes)
    assert "'w1'" in said[0]
    assert "made anew" in said[0]
    assert packed.path.read_bytes() == whole

    monkeypatch.setattr(
        SimulatedRuntime,
        "run",
        lambda self, program, weights, *a, **k: (_ for _ in ()).throw(CacheCorrupt(weights, "w1")),
    )
    with pytest.raises(CacheCorrupt):  # a disk that damages everything is not retried for ever
        workflow.run(prepared, plan)


def test_a_bundle_runs_as_its_model_does(prepared: workflow.Prepared, tmp_path: Path) -> None:
    from flashmem_lab.program import write_bundle

    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    compiled = workflow.compile_plan(prepared, plan)
    write_bundle(compiled.program, compiled.packed, tmp_path / "m.fmb")
    bundled = workflow.run_bundle(
        workflow.open_bundle(tmp_path / "m.fmb"), prepared.device
    ).to_json()
    direct = workflow.run(prepared, plan).to_json()
    for name in ("peak_bytes", "streamed_bytes", "predicted", "budget_bytes", "storage"):
        assert bundled[name] == direct[name]
    assert bundled["min_budget_bytes"] is None


# --- arrays --------------------------------------------------------------------------------


def test_sampled_inputs_repeat(prepared: workflow.Prepared) -> None:
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    program = workflow.compile_plan(prepared, plan).program
    first, again, other = (sample_inputs(program, seed) for seed in (1, 1, 2))
    assert first["x"].shape == (BATCH, WIDTH)
    assert first["x"].dtype == np.float32
    assert np.array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], other["x"])


@pytest.mark.parametrize("size", [(16, 16), (48, 192), (48, 320), (224, 224), (640, 640)])
def test_sampled_pictures_have_signs_on_paper(size: tuple[int, int]) -> None:
    shape = (2, 3, *size)
    drawn = page(np.random.default_rng(3), shape)
    assert drawn.shape == shape
    assert np.array_equal(drawn, page(np.random.default_rng(3), shape))
    dark = (drawn < 0).mean()
    assert 0.02 < dark < 0.4
    assert np.abs(drawn).max() <= 1
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[:, 0], drawn[:, 1])


def test_only_npy_files_are_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(1))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("a.npz", "pickled.npy", "text.npy", "empty.npy", "none.npy"):
        with pytest.raises(InputError, match=name):
            read_inputs({"x": tmp_path / name})


def test_compare() -> None:
    right = {"y": np.array([3.0, 4.0, np.inf], np.float32), "i": np.array([1, 2])}
    assert compare(right, right, Precision.FP32).ok
    near = {**right, "y": right["y"] + np.float32(4e-4)}
    check = compare(near, right, Precision.FP32)
    assert check.max_abs == pytest.approx(4e-4, rel=1e-2)
    assert check.rel_l2 == pytest.approx(4e-4 * 2**0.5 / 5, rel=1e-2)
    assert not check.ok
    assert compare(near, right, Precision.FP16).ok
    assert not compare({**right, "i": np.array([1, 3])}, right, Precision.FP16).ok
    assert not compare({"y": right["y"]}, right, Precision.FP16).ok
    assert not compare({**right, "y": right["y"][:2]}, right, Precision.FP16).ok
    nowhere = {"y": np.array([np.nan, 4.0], np.float32)}
    assert compare(nowhere, nowhere, Precision.FP32).ok
    assert not compare(nowhere, {"y": np.array([3.0, 4.0], np.float32)}, Precision.FP32).ok
    lost = {**right, "y": np.array([3.0, np.nan, np.inf], np.float32)}
    check = compare(lost, right, Precision.FP16)
    assert not check.ok
    assert check.max_abs == np.inf


def test_outputs_never_replace_files(tmp_path: Path) -> None:
    ports = [Port("scale/0 y", "float32", (2,), None), Port("../up", "float32", (2,), None)]
    paths = output_files(tmp_path / "o", ports)
    assert {path.name for path in paths.values()} == {"scale_0_y.npy", ".._up.npy"}
    arrays = {name: np.ones(2, np.float32) for name in paths}
    save_outputs(arrays, paths)
    assert np.array_equal(np.load(paths["../up"]), np.ones(2))
    with pytest.raises(UsageError, match="left alone"):
        output_files(tmp_path / "o", ports)
    paths["../up"].unlink()
    with pytest.raises(FlashMemError, match="saving outputs"):
        save_outputs(arrays, dict(reversed(paths.items())))
    assert not paths["../up"].exists(), "all of them or none"
    assert paths["scale/0 y"].exists()


def test_outputs_whose_names_fit_no_file_or_clash(tmp_path: Path) -> None:
    names = ["a/b", "a:b", "A_b", "x" * 300, "x" * 299 + "y", "plain"]
    paths = output_files(tmp_path / "o", [Port(name, "float32", (2,), None) for name in names])
    assert len({path.name.lower() for path in paths.values()}) == len(names)
    assert paths["plain"].name == "plain.npy"
    save_outputs({name: np.full(2, at, np.float32) for at, name in enumerate(names)}, paths)
    assert [np.load(paths[name])[0] for name in names] == list(range(len(names)))


def test_outputs_go_into_a_folder_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = Port("y", "float32", (2,), None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file is not a folder"):
        output_files(tmp_path / "file/a/b", [port])
    paths = output_files(tmp_path / "a/b", [port])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DiskFull):
        save_outputs({"y": np.ones(2)}, paths)
    assert not (tmp_path / "a").exists()
