"""Programs run by the agent, a child process of this one, on the first OpenCL device here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from flashmem_lab.device import DeviceSpec
from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import CacheCorrupt, DeviceError, InputError, PlanError
from flashmem_lab.lower import Precision
from flashmem_lab.program import write_bundle
from flashmem_lab.runtime.adb.link import LinkClosed, LocalHost, LocalLink, PushProgress
from flashmem_lab.runtime.adb.runtime import AdbRuntime
from flashmem_lab.runtime.adb.session import Session
from flashmem_lab.runtime.opencl import OpenCLRuntime, list_devices
from flashmem_lab.zoo import make, sample_inputs
from tests.remote.programs import MODELS, Arrays, Planned, plan_model

pytestmark = pytest.mark.device


class WatchedHost(LocalHost):
    """This machine, with notes of what was pushed and started."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.pushed: list[str] = []
        self.started: list[LocalLink] = []

    def push(self, local: Path, path: str, progress: PushProgress | None = None) -> None:
        self.pushed.append(Path(path).suffix)
        super().push(local, path, progress)

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> LocalLink:
        self.started.append(super().start(argv, env))
        return self.started[-1]


@pytest.fixture(scope="module")
def device() -> DeviceSpec:
    found = list_devices()
    assert found, "no OpenCL device; `make test` installs PoCL"
    return found[0]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, agent: Path) -> Iterator[WatchedHost]:
    """One for all tests: kernels that were compiled are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLASHMEM_AGENT", str(agent))
        yield WatchedHost(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def runtime(
    host: WatchedHost, device: DeviceSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AdbRuntime]:
    spec = replace(device, id="adb:local")
    with AdbRuntime(host, spec, tmp_path_factory.mktemp("agents")) as opened:
        yield opened


@pytest.fixture
def matrices(tmp_path: Path, device: DeviceSpec) -> Planned:
    return plan_model(*MODELS["matrices"](tmp_path), device)


def expected(model: Path, inputs: Arrays) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, dict(inputs))
    return found


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("budget", ["min", "30%", "100%"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_right_and_peaks_as_predicted(
    runtime: AdbRuntime,
    device: DeviceSpec,
    tmp_path: Path,
    name: str,
    budget: str,
    transport: Transport,
) -> None:
    model, inputs = MODELS[name](tmp_path)
    planned = plan_model(model, inputs, device, budget=budget, transport=transport)
    program = planned.program
    result = runtime.run(program, planned.packed.path, inputs, repeat=2)
    for output, wanted in zip(result.outputs.values(), expected(model, inputs), strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-3, atol=1e-4)
    assert result.peak_bytes["total"] == program.predicted_peak_bytes <= program.budget_bytes
    assert int(result.trace.notes["held_peak_bytes"]) <= program.predicted_peak_bytes
    assert result.trace.origin == "adb"
    assert len(result.warm_ms) == 1


def test_a_run_is_the_same_as_here(runtime: AdbRuntime, device: DeviceSpec, tmp_path: Path) -> None:
    """Bit for bit, and with the same events: what ran, in which lane, and what it moved."""
    planned = plan_model(*MODELS["convolutions"](tmp_path), device, transport=Transport.COPY)
    there = runtime.run(planned.program, planned.packed.path, planned.inputs)
    with OpenCLRuntime(device.id) as local:
        here = local.run(planned.program, planned.packed.path, planned.inputs)
    assert np.array_equal(there.outputs["y"], here.outputs["y"])
    events = [
        sorted(
            (e.lane, e.kind, e.name, e.layer, e.weight, e.bytes)
            for e in result.trace.timeline.events
            if e.kind != "stall"
        )
        for result in (there, here)
    ]
    assert events[0] == events[1]


def test_halves_are_read_and_their_rows_widened(
    runtime: AdbRuntime, device: DeviceSpec, tmp_path: Path
) -> None:
    model, inputs = MODELS["sentence"](tmp_path)
    planned = plan_model(model, inputs, device, precision=Precision.FP16)
    result = runtime.run(planned.program, planned.packed.path, inputs)
    np.testing.assert_allclose(result.outputs["y"], expected(model, inputs)[0], atol=0.05)


def test_a_model_of_the_zoo(runtime: AdbRuntime, device: DeviceSpec, tmp_path: Path) -> None:
    model = make("mobilenetv2", tmp_path)
    inputs = sample_inputs("mobilenetv2")
    planned = plan_model(model, inputs, device, budget="20%")
    result = runtime.run(planned.program, planned.packed.path, inputs)
    np.testing.assert_allclose(
        result.outputs["logits"], expected(model, inputs)[0], rtol=1e-3, atol=1e-3
    )
    assert result.peak_bytes["total"] == planned.program.predicted_peak_bytes


def test_a_bundle_needs_nothing_beside_it(
    host: WatchedHost, agent: Path, matrices: Planned, tmp_path: Path
) -> None:
    path = tmp_path / "m.fmb"
    write_bundle(matrices.program, matrices.packed, path)
    session = Session(host.start([str(agent), "serve"], {}))
    session.open(str(path), [], str(tmp_path / "kernels"))
    first = next(command for command in matrices.program.compute if command.name == "x0")
    session.give(first.id, matrices.inputs["x0"])
    ran = session.run(outputs=True, state=lambda *_: None, call=lambda *_: b"")
    session.shut()
    session.close()
    (data,) = ran.outputs.values()
    wanted = expected(matrices.model, matrices.inputs)[0]
    np.testing.assert_allclose(np.frombuffer(data, np.float32).reshape(8, 256), wanted, atol=1e-4)
    assert ran.held_peak_bytes <= matrices.program.predicted_peak_bytes
    assert list((tmp_path / "kernels").glob("*.kernel"))


def test_weights_are_copied_once(
    host: WatchedHost, runtime: AdbRuntime, device: DeviceSpec, tmp_path: Path
) -> None:
    """`host` names the agent; this machine has none of the files that it has."""
    fresh = WatchedHost(tmp_path / "fresh")
    model, inputs = MODELS["matrices"](tmp_path)
    with AdbRuntime(fresh, runtime.spec, tmp_path) as other:
        for budget, pushed in (("10%", [".fmw", "", ".fmp"]), ("90%", [".fmp"])):
            fresh.pushed.clear()
            planned = plan_model(model, inputs, device, budget=budget)
            other.run(planned.program, planned.packed.path, inputs)
            assert fresh.pushed == pushed
    assert not list(Path(fresh.folder, "programs").iterdir())


def test_kernels_are_compiled_once(runtime: AdbRuntime, matrices: Planned) -> None:
    runtime.prepare(matrices.program)
    result = runtime.run(matrices.program, matrices.packed.path, matrices.inputs)
    assert result.kernels_compiled == 0


def test_what_it_holds_is_told_while_it_runs(runtime: AdbRuntime, matrices: Planned) -> None:
    held: list[int] = []

    def hear(what: str, done: int, total: int) -> None:
        if what.startswith("run "):
            held.append(sum(runtime.held_bytes().values()))

    runtime.run(matrices.program, matrices.packed.path, matrices.inputs, repeat=50, progress=hear)
    assert 0 < max(held) <= matrices.program.predicted_peak_bytes
    assert runtime.held_bytes() == {}


# --- what goes wrong -------------------------------------------------------------------------


def runs_again(runtime: AdbRuntime, planned: Planned) -> None:
    assert runtime.run(planned.program, planned.packed.path, planned.inputs).outputs


def test_an_agent_that_is_killed(runtime: AdbRuntime, host: WatchedHost, matrices: Planned) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if what.startswith("run 3"):
            for link in host.started:
                with suppress(ProcessLookupError):  # of another test, or dead and still heard
                    os.kill(link.pid, signal.SIGKILL)

    with pytest.raises(LinkClosed, match="killed by signal 9"):
        runtime.run(
            matrices.program, matrices.packed.path, matrices.inputs, repeat=10_000, progress=kill
        )
    runs_again(runtime, matrices)


def test_an_agent_that_died_in_between(
    runtime: AdbRuntime, host: WatchedHost, matrices: Planned
) -> None:
    runs_again(runtime, matrices)
    for link in host.started:
        with suppress(ProcessLookupError):
            os.kill(link.pid, signal.SIGKILL)
    runs_again(runtime, matrices)


def test_a_run_that_is_left(runtime: AdbRuntime, host: WatchedHost, matrices: Planned) -> None:
    def leave(what: str, done: int, total: int) -> None:
        if what.startswith("run 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime.run(
            matrices.program, matrices.packed.path, matrices.inputs, repeat=10_000, progress=leave
        )
    for link in host.started:
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)
    runs_again(runtime, matrices)


def test_a_damaged_weight_is_named(runtime: AdbRuntime, matrices: Planned) -> None:
    path = matrices.packed.path
    weight, span = list(matrices.packed.spans.items())[-1]
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[span.offset + 5] ^= 1
    damaged[100] ^= 1  # another file, as far as its preamble says
    path.write_bytes(damaged)
    with pytest.raises(CacheCorrupt) as caught:
        runtime.run(matrices.program, path, matrices.inputs)
    assert caught.value.weight == weight
    path.write_bytes(sound)
    runs_again(runtime, matrices)


def test_an_index_beyond_its_table(runtime: AdbRuntime, device: DeviceSpec, tmp_path: Path) -> None:
    planned = plan_model(*MODELS["sentence"](tmp_path), device)
    wrong = {"ids": np.array([[0, 1, 2, 3, 700]], np.int64)}
    with pytest.raises(InputError, match="index 700 is outside table"):
        runtime.run(planned.program, planned.packed.path, wrong)
    runs_again(runtime, planned)


def test_lanes_that_wait_for_each_other(runtime: AdbRuntime, matrices: Planned) -> None:
    program = matrices.program
    last = program.compute[-1].id
    read = replace(program.disk[0], after=(*program.disk[0].after, last))
    knotted = replace(program, disk=(read, *program.disk[1:]))
    with pytest.raises(PlanError, match="waits for one that waits for it"):
        runtime.run(knotted, matrices.packed.path, matrices.inputs)
    runs_again(runtime, matrices)


def test_a_kernel_that_does_not_compile(runtime: AdbRuntime, matrices: Planned) -> None:
    program = matrices.program
    kernel = replace(program.kernels[0], source="__kernel void gemm() { nonsense; }")
    with pytest.raises(DeviceError, match="compiler refused kernel"):
        runtime.prepare(replace(program, kernels=(kernel, *program.kernels[1:])))
    runs_again(runtime, matrices)


def test_no_opencl_is_said(host: WatchedHost, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHMEM_OPENCL", "/nowhere/libOpenCL.so")
    with pytest.raises(DeviceError, match=r"no OpenCL library works here: /nowhere/libOpenCL\.so"):
        Session(host.start([str(agent), "serve"], {}))
