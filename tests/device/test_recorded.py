"""Stretches of launches that do not change: one by one and replayed, they compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import DeviceError
from flashmem_lab.lower.layer import Storage
from flashmem_lab.plan.timeline import Event
from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.base import RunResult
from flashmem_lab.runtime.measured import Pass
from flashmem_lab.runtime.opencl import OpenCLRuntime, commandbuffer
from flashmem_lab.runtime.opencl.commandbuffer import CommandBuffer, CommandBuffers
from flashmem_lab.runtime.opencl.engine import Engine
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.runtime.opencl.stretched import Stretched
from flashmem_lab.runtime.stretches import Stretch
from flashmem_lab.trace import profile_of
from tests.device.conftest import Chain

Make = Callable[..., Chain]
RUNS = 6


@dataclass
class Fake:
    """A driver's command buffers in words of its ordinary launches.

    Drivers without the extension are tested with it, and what becomes of each buffer is seen.
    """

    queue: cl.CommandQueue
    refuse_record: bool = False
    refuse_enqueue: bool = False
    made: list[FakeBuffer] = field(default_factory=list)

    def record(self, launches: Any) -> FakeBuffer | None:
        if self.refuse_record:
            return None
        self.made.append(FakeBuffer(self, tuple(launches)))
        return self.made[-1]


@dataclass
class FakeBuffer:
    fake: Fake
    launches: tuple[Any, ...]
    replayed: int = 0
    released: int = 0

    def enqueue(self) -> cl.Event | None:
        assert not self.released
        if self.fake.refuse_enqueue:
            return None
        self.replayed += 1
        events = [
            cl.enqueue_nd_range_kernel(self.fake.queue, *launched) for launched in self.launches
        ]
        return events[-1]

    def release(self) -> None:
        self.released += 1


@contextmanager
def faked(monkeypatch: pytest.MonkeyPatch, **how: bool) -> Iterator[list[Fake]]:
    """Every device has command buffers such as `Fake`."""
    made: list[Fake] = []

    def on(queue: cl.CommandQueue) -> Fake:
        made.append(Fake(queue, **how))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(CommandBuffers, "on", on)
        yield made


def run(
    device_id: str,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    *,
    recorded: bool,
    xs: list[np.ndarray] | None = None,
) -> tuple[list[np.ndarray], RunResult]:
    """The outputs of every run, each with an input of its own, and the result."""
    outputs: list[np.ndarray] = []
    ordinary = Engine.run

    def with_its_own(engine: Engine, number: int, inputs: object, *more: Any, **named: Any) -> Pass:
        own = {"x": xs[number]} if xs else chain.inputs
        done = ordinary(engine, number, own, *more, **named)
        outputs.append(done.outputs["y"].copy())
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", with_its_own)
        with OpenCLRuntime(device_id, recorded=recorded) as runtime:
            result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=RUNS)
    return outputs, result


def of_run(result: RunResult, number: int, kind: str) -> list[Event]:
    return [e for e in result.trace.timeline.events if e.run == number and e.kind == kind]


def inputs_of(chain: Chain) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [rng.standard_normal(chain.x.shape).astype(np.float32) for _ in range(RUNS)]


def expected(chain: Chain, x: np.ndarray) -> np.ndarray:
    # y is linear in x: each of the layers halves what comes from it.
    return chain.y + (x.astype(np.float64) - chain.x) * 0.5 ** len(chain.program.layers)


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("streamed", [(), (3,), (2, 3, 7)])
def test_replayed_runs_equal_single_ones(
    device_id: str,
    make_chain: Make,
    monkeypatch: pytest.MonkeyPatch,
    transport: Transport,
    streamed: tuple[int, ...],
) -> None:
    chain = make_chain(
        layers=8, transport=transport, preloaded=[i for i in range(8) if i not in streamed]
    )
    xs = inputs_of(chain)
    single, first = run(device_id, chain, monkeypatch, recorded=False, xs=xs)
    with faked(monkeypatch) as made:
        replayed, second = run(device_id, chain, monkeypatch, recorded=True, xs=xs)
    for x, one, other in zip(xs, single, replayed, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, expected(chain, x), rtol=1e-5, atol=1e-5)
    [fake] = made
    assert [buffer.replayed for buffer in fake.made] == [RUNS - 2] * len(fake.made)
    assert [buffer.released for buffer in fake.made] == [1] * len(fake.made)
    assert len(fake.made) == len(of_run(second, 2, "replay")) > 0
    for result in (first, second):
        assert result.peak_bytes["total"] <= chain.program.budget_bytes
    assert first.peak_bytes["total"] == second.peak_bytes["total"]


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("recorded", [False, True])
def test_launches_beside_streamed_weights_keep_their_own_times(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch, ahead: int, recorded: bool
) -> None:
    """On a device that uses weights in place they are made ready once, too; none is replayed."""
    chain = make_chain(layers=9, storage=Storage.BUFFER, preloaded=[1, 5, 6], ahead=ahead)
    readied: list[str] = []
    make_ready = Stretched.make_ready

    def noting(self: Stretched, stretches: Iterable[Stretch], objects: Any) -> None:
        stretches = tuple(stretches)
        readied.extend(launch.name for stretch in stretches for launch in stretch.launches)
        make_ready(self, stretches, objects)

    monkeypatch.setattr(Stretched, "make_ready", noting)
    xs = inputs_of(chain)
    with faked(monkeypatch) as made:
        outputs, result = run(device_id, chain, monkeypatch, recorded=recorded, xs=xs)
    for x, one in zip(xs, outputs, strict=True):
        np.testing.assert_allclose(one, expected(chain, x), rtol=1e-5, atol=1e-5)
    context = cl.Context([find(device_id)])
    in_place = works_in_place(context, cl.CommandQueue(context))
    # Layers 2, 3, 7 and 8 have a weight each that is not there yet, and nothing behind them.
    ready = [0, 1, 4, 5, 6] if in_place else [5, 6]
    assert readied == [f"layer {at}" for at in ready]
    replayed = [buffer for fake in made for buffer in fake.made]
    assert len(replayed) == (1 if recorded and not in_place else 0)
    for number in range(RUNS):
        launches = {e.layer: e for e in of_run(result, number, "launch")}
        uploads = {e.layer: e for e in of_run(result, number, "upload")}
        assert set(launches) >= {0, 2, 3, 4, 7, 8}
        for layer, upload in uploads.items():
            if layer in launches:
                assert upload.end_ns <= launches[layer].start_ns
        assert [e.layer for e in of_run(result, number, "launch")] == sorted(launches)
    assert result.peak_bytes["total"] == chain.program.predicted_peak_bytes


def test_the_drivers_own_command_buffers(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the driver has them; the others launch one by one."""
    chain = make_chain(layers=8, preloaded=[0, 1, 2, 5, 6, 7])
    xs = inputs_of(chain)
    single, _ = run(device_id, chain, monkeypatch, recorded=False, xs=xs)
    replayed, result = run(device_id, chain, monkeypatch, recorded=True, xs=xs)
    for one, other in zip(single, replayed, strict=True):
        np.testing.assert_array_equal(one, other)
    with OpenCLRuntime(device_id) as runtime:
        spec = runtime.spec
    has = "cl_khr_command_buffer" in _extensions(device_id)
    assert len(of_run(result, RUNS - 1, "replay")) == (2 if has else 0)
    profile = profile_of(
        result.trace, (result.first_run_ms, *result.warm_ms), chain.program.costs, spec
    )
    assert not of_run(result, profile.detailed, "replay")
    assert {layer.index for layer in profile.layers} == set(range(8))


def _extensions(device_id: str) -> list[str]:
    return find(device_id).extensions.split()


def test_a_trace_tells_of_a_replay_what_is_known(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_chain(layers=8, preloaded=range(8))
    with faked(monkeypatch):
        _, result = run(device_id, chain, monkeypatch, recorded=True)
    assert len(of_run(result, 1, "launch")) == 8
    assert not of_run(result, 1, "replay")
    for number in range(2, RUNS):
        [event] = of_run(result, number, "replay")
        assert not of_run(result, number, "launch")
        assert event.name == "layer 0 .. layer 7 (8 launches)"
        assert event.layer == -1
        assert event.end_ns > event.start_ns >= 0


@pytest.mark.parametrize("how", ["refuse_record", "refuse_enqueue"])
def test_what_a_driver_refuses_is_launched_one_by_one(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    chain = make_chain(layers=6, preloaded=range(6))
    with faked(monkeypatch, **{how: True}) as made:
        outputs, result = run(device_id, chain, monkeypatch, recorded=True)
    np.testing.assert_allclose(outputs[-1], chain.y, rtol=1e-5, atol=1e-5)
    assert len(of_run(result, RUNS - 1, "launch")) == 6
    assert all(buffer.released == 1 for buffer in made[0].made)


def test_a_driver_without_the_functions_launches_one_by_one(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commandbuffer, "function", lambda *of: None)
    chain = make_chain(layers=6, preloaded=range(6))
    outputs, result = run(device_id, chain, monkeypatch, recorded=True)
    np.testing.assert_allclose(outputs[-1], chain.y, rtol=1e-5, atol=1e-5)
    assert len(of_run(result, RUNS - 1, "launch")) == 6


@pytest.mark.parametrize("broken", ["Create", "NDRange", "Finalize", "Enqueue"])
def test_functions_that_fail_launch_one_by_one(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each function of the driver in turn says that it is out of resources."""
    ordinary = commandbuffer.function

    def function(device: cl.Device, name: str, *of: Any) -> Any:
        found = ordinary(device, name, *of)
        if found is None or broken not in name:
            return found
        if broken != "Create":
            return lambda *arguments: cl.status_code.OUT_OF_RESOURCES

        def create(*arguments: Any) -> None:
            arguments[-1]._obj.value = cl.status_code.OUT_OF_RESOURCES

        return create

    monkeypatch.setattr(commandbuffer, "function", function)
    chain = make_chain(layers=6, preloaded=range(6))
    outputs, result = run(device_id, chain, monkeypatch, recorded=True)
    np.testing.assert_allclose(outputs[-1], chain.y, rtol=1e-5, atol=1e-5)
    assert len(of_run(result, RUNS - 1, "launch")) == 6


@pytest.mark.parametrize(
    ("required", "supported"),
    [(cl.command_queue_properties.OUT_OF_ORDER_EXEC_MODE_ENABLE, None), (0, 0), (None, None)],
)
def test_queues_that_a_device_cannot_record_for_are_left_alone(
    device_id: str, monkeypatch: pytest.MonkeyPatch, required: int | None, supported: int | None
) -> None:
    """Queues here have profiling: what cannot have that, or wants more, does not record."""
    answers = {0x12AA: required, 0x129A: supported}
    monkeypatch.setattr(commandbuffer, "bits", lambda device, parameter: answers[parameter])
    with OpenCLRuntime(device_id) as runtime:
        assert CommandBuffers.on(runtime._device.compute) is None


def test_other_major_versions_are_left_alone(
    device_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commandbuffer, "version", lambda device, extension: (2, 0, 0))
    with OpenCLRuntime(device_id) as runtime:
        assert CommandBuffers.on(runtime._device.compute) is None


def test_a_run_that_fails_releases_its_command_buffers(
    device_id: str, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_chain(layers=8, preloaded=[0, 1, 2, 3, 5, 6, 7])
    told = 0

    def stop(what: str, done: int, total: int) -> None:
        nonlocal told
        if what == f"run {RUNS - 1} of {RUNS}":
            told += 1
            raise KeyboardInterrupt

    with (
        faked(monkeypatch) as made,
        OpenCLRuntime(device_id, recorded=True) as runtime,
    ):
        with pytest.raises(KeyboardInterrupt):
            runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=RUNS, progress=stop)
        assert told == 1
        assert [buffer.released for buffer in made[0].made] == [1, 1]
        again = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=4)
        np.testing.assert_allclose(again.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("storage", "preloaded", "failing_layer"),
    [
        (Storage.IMAGE2D, range(5), 3),
        (Storage.BUFFER, range(1, 5), 0),
        (Storage.BUFFER, range(1, 5), 1),
        (Storage.BUFFER, range(1, 5), 2),
    ],
)
def test_a_launch_that_fails_in_a_stretch_is_named(
    device_id: str,
    make_chain: Make,
    monkeypatch: pytest.MonkeyPatch,
    storage: Storage,
    preloaded: range,
    failing_layer: int,
) -> None:
    """And the run ends: nothing waits for what was to be given to the device with it."""
    chain = make_chain(layers=5, preloaded=preloaded, storage=storage)
    left = failing_layer
    launch, run = cl.enqueue_nd_range_kernel, Engine.run

    def failing(*arguments: Any, **named: Any) -> cl.Event:
        nonlocal left
        left -= 1
        if left < 0:
            raise cl.RuntimeError(cl._cl._ErrorRecord("clEnqueueNDRangeKernel", -5, "no room"))
        return launch(*arguments, **named)

    def from_the_second_on(engine: Engine, number: int, *more: Any, **named: Any) -> Pass:
        if number == 1:
            monkeypatch.setattr(cl, "enqueue_nd_range_kernel", failing)
        return run(engine, number, *more, **named)

    monkeypatch.setattr(Engine, "run", from_the_second_on)
    with (
        OpenCLRuntime(device_id) as runtime,
        pytest.raises(DeviceError, match=f"'layer {failing_layer}'"),
    ):
        runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=2)


def test_command_buffers_are_given_back_to_the_driver(device_id: str) -> None:
    """Recording, replaying and releasing many of them leaves kernels as they were."""
    with OpenCLRuntime(device_id) as runtime:
        queue = runtime._device.compute
        buffers = CommandBuffers.on(queue)
        assert (buffers is not None) == ("cl_khr_command_buffer" in _extensions(device_id))
        if buffers is None:
            return
        source = KernelSource("add", "__kernel void add(__global int* a) { *a += 1; }")
        [kernel] = runtime._kernels.build([source])
        held = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4)
        cl.enqueue_fill_buffer(queue, held, np.int32(0), 0, 4)
        kernel.set_arg(0, held)
        references = kernel.reference_count
        for _ in range(10):
            buffer = buffers.record([commandbuffer.Launched(kernel, (1,), None)] * 3)
            assert isinstance(buffer, CommandBuffer)
            event = buffer.enqueue()
            assert event is not None
            event.wait()
            buffer.release()
        queue.finish()
        total = np.zeros(1, np.int32)
        cl.enqueue_copy(queue, total, held)
        assert total[0] == 30
        assert kernel.reference_count == references
