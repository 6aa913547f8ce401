"""The runtime without a device: its memory, its clock, and that it agrees with the planner."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.device import DeviceSpec, HostTimes, Quantity, Transport, simulated_devices
from flashmem_lab.errors import OutOfBudget, UsageError
from flashmem_lab.lower.layer import (
    Arg,
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Port,
    Precision,
    Recipe,
    Storage,
    View,
    Weight,
)
from flashmem_lab.plan import Strategy, make_plan
from flashmem_lab.plan.simulate import simulate
from flashmem_lab.plan.timeline import Event, Lane, Pool, Timeline
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.program.program import Alloc, KernelSource, Program
from flashmem_lab.runtime.simulated import SimulatedRuntime
from flashmem_lab.units import Budget

DEVICE = simulated_devices()["sim:adreno750"]
NOWHERE = Path("no file is opened")
LAYERS, WIDTH, HEIGHT = 6, 64, 600


def chain() -> LoweredModel:
    """y = x + w0 + w1 ...; each layer frees what it read, so each step waits for the last."""
    size = WIDTH * 4 * HEIGHT
    view = View("b0", "float32", 0, (size,), (1,))
    return LoweredModel(
        name="chain",
        fingerprint="f00d",
        precision=Precision.FP32,
        layers=tuple(
            Layer(
                index=i,
                name=f"layer {i}",
                kind="add",
                op_class=OperatorClass.REUSABLE,
                work=KernelCall("add", (), (Arg("object", f"w{i}"),), (WIDTH,), (1,)),
                reads=(f"b{i}",),
                writes=(f"b{i + 1}",),
                weights=(f"w{i}",),
                flops=size * (i + 1) * 40,
                bytes_read=8 * size,
                bytes_written=4 * size,
                nodes=(),
            )
            for i in range(LAYERS)
        ),
        buffers={f"b{i}": 4 * size for i in range(LAYERS + 1)},
        weights={
            f"w{i}": Weight(
                f"w{i}", Storage.IMAGE2D, "float32", WIDTH, HEIGHT, Recipe(None, "c", ())
            )
            for i in range(LAYERS)
        },
        constants={"c": ("float32", (size,), np.ones(size, np.float32).tobytes())},
        inputs=(Port("x", "float32", (size,), view),),
        outputs=(Port("y", "float32", (size,), replace(view, ref=f"b{LAYERS}")),),
    )


def build(
    folder: Path, device: DeviceSpec, budget: str, strategy: Strategy = Strategy.GREEDY
) -> tuple[Program, Timeline]:
    """A program for `device`, and what the planner expects of it in two runs."""
    model = chain()
    plan = make_plan(model, device, budget=Budget.parse(budget), strategy=strategy)
    packed = pack_weights(model, folder)
    program = build_program(
        plan, model, packed, renderer=lambda call: KernelSource("add", "__kernel void add() {}")
    )
    return program, simulate(plan, model, device, runs=2)


DEVICES = [replace(DEVICE, transport=transport) for transport in Transport]
HOST = HostTimes(*(Quantity(ns, "made up") for ns in (9e6, 6e4, 0.3, 3e5, 4e4, 2e5)))
WITH_HOSTS = [replace(device, host=HOST, contention=Quantity(1.0, "")) for device in DEVICES]


@pytest.mark.parametrize(
    "device",
    [*DEVICES, *WITH_HOSTS],
    ids=[f"{device.transport}{told}" for told in ("", "-host") for device in DEVICES],
)
@pytest.mark.parametrize("budget", ["min", "30%", "100%"])
def test_agrees_with_the_planners_clock(tmp_path: Path, device: DeviceSpec, budget: str) -> None:
    """Two codes, one of arrays and one of commands, and the same events to the nanosecond."""
    program, expected = build(tmp_path, device, budget)
    result = SimulatedRuntime(device).run(program, NOWHERE, {}, repeat=2)
    assert result.trace.origin == "simulated"
    (what, when), (wanted, wanted_when) = sort(result.trace.timeline), sort(expected)
    assert what == wanted
    np.testing.assert_allclose(when, wanted_when, atol=2)  # floats added up in another order
    ends = [max(e.end_ns for e in expected.events if e.run == run) for run in (0, 1)]
    assert [result.first_run_ms, *result.warm_ms] == pytest.approx([end / 1e6 for end in ends])


def sort(timeline: Timeline) -> tuple[list[tuple[object, ...]], list[tuple[int, int]]]:
    """What happened in each lane, in order, and when."""

    def what(event: Event) -> tuple[int, str, str, int, str, int]:
        return (event.run, event.lane, event.kind, event.layer, event.weight, event.bytes)

    events = sorted(timeline.events, key=lambda e: (e.run, e.lane, e.kind, e.layer, e.start_ns))
    return [what(e) for e in events], [(e.start_ns, e.end_ns) for e in events]


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.transport.value)
def test_memory_is_the_programs_order(tmp_path: Path, device: DeviceSpec) -> None:
    """The very curve that a device shows: one sample for each memory command."""
    program, _ = build(tmp_path, device, "40%")
    result = SimulatedRuntime(device).run(program, NOWHERE, {}, repeat=2)
    held = {Pool.TEXTURE: 0, Pool.BUFFER: 0}
    expected = [(0, Pool.STAGING, program.staging_bytes)] if program.staging_bytes else []
    for run in (0, 1):
        for command in program.memory:
            if isinstance(command, Alloc) and command.once and run:
                continue
            item = program.objects[command.object]
            held[item.pool] += item.bytes if isinstance(command, Alloc) else -item.bytes
            expected.append((run, item.pool, held[item.pool]))
    samples = result.trace.timeline.samples
    assert [(s.run, s.pool, s.bytes) for s in samples] == expected
    assert result.peak_bytes["total"] == program.predicted_peak_bytes
    assert 0 < result.average_bytes <= program.predicted_peak_bytes
    assert all(a.time_ns <= b.time_ns for a, b in pairwise(samples) if a.run == b.run)


def test_barrier_shows_as_one_stall(tmp_path: Path) -> None:
    program, _ = build(tmp_path, DEVICE, "100%", Strategy.PRELOAD)
    result = SimulatedRuntime(DEVICE).run(program, NOWHERE, {})
    events = result.trace.timeline.events
    stalls = [event for event in events if event.kind == "stall"]
    assert [stall.layer for stall in stalls] == [0]
    assert stalls[0].end_ns == max(e.end_ns for e in events if e.lane is Lane.TRANSFER)
    assert result.stall_ms == pytest.approx(stalls[0].end_ns / 1e6)


def test_budget_is_enforced(tmp_path: Path) -> None:
    program, _ = build(tmp_path, DEVICE, "min")
    tight = replace(program, budget_bytes=program.predicted_peak_bytes - 1)
    with pytest.raises(OutOfBudget):
        SimulatedRuntime(DEVICE).run(tight, NOWHERE, {})


def test_runs_at_least_once(tmp_path: Path) -> None:
    program, _ = build(tmp_path, DEVICE, "min")
    with pytest.raises(UsageError):
        SimulatedRuntime(DEVICE).run(program, NOWHERE, {}, repeat=0)


def test_a_program_without_costs_still_runs(tmp_path: Path) -> None:
    program, _ = build(tmp_path, DEVICE, "100%")
    result = SimulatedRuntime(DEVICE).run(replace(program, costs=()), NOWHERE, {}, repeat=2)
    assert result.warm_ms[0] == pytest.approx(LAYERS * DEVICE.launch_ns.value / 1e6)


def test_needs_no_opencl() -> None:
    code = "import sys, flashmem_lab.runtime.simulated; sys.exit('pyopencl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
