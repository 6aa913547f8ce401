"""What runs take of the host besides moving bytes and computing, from a network of small layers.

Its kernels are done in no time, so a run of it is the host's: how long until the first launch, how
far apart launches follow each other, one by one or recorded and replayed, and what weights that are
streamed add, with room to spare and without any. The last two are what the planner's clock does not
tell of later runs without them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import numpy as np

from flashmem_lab.device.spec import NO_TIME, DeviceSpec, HostTimes, Quantity
from flashmem_lab.devices import open_runtime
from flashmem_lab.lower import LoweredModel, lower
from flashmem_lab.plan import Constraints, Plan, make_plan
from flashmem_lab.plan.clock import run_ns
from flashmem_lab.plan.problem import Problem, build_problem
from flashmem_lab.plan.simulate import steps_of
from flashmem_lab.plan.timeline import Event
from flashmem_lab.plan.told import told
from flashmem_lab.profiling.contention import usual_launches
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import network_graph, touching_graph
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import Progress
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget

SESSIONS = 5
"""Times that the device is opened for each plan: each has a first run."""

REPEAT = 8
"""Runs of each."""

ROOMY, TIGHT = 0.5, 0.0
"""Budgets of streaming: room for a good part of the weights, and for those of one layer."""


@dataclass(frozen=True, slots=True)
class Host:
    """What was measured.

    Attributes:
        times: of runs.
        first_launch_ns: from one launch to that of a layer that loads weights, in a first run.
        launch_ns: what a launch adds to the kernel's own time, in later runs.
    """

    times: HostTimes
    first_launch_ns: Quantity
    launch_ns: Quantity


@dataclass(frozen=True, slots=True)
class TimedRun:
    """One run.

    Attributes:
        launches: those that have times of their own.
        ns: how long it took.
        replayed: whether there were others.
    """

    launches: tuple[Event, ...]
    ns: float
    replayed: bool = False

    @property
    def besides_ns(self) -> float:
        """Before the first launch and after the last one."""
        return self.ns - (self.launches[-1].end_ns - self.launches[0].start_ns)

    @property
    def kernels_ns(self) -> float:
        """Sum of its launches."""
        return sum(event.end_ns - event.start_ns for event in self.launches)

    def apart_ns(self, layers: Container[int]) -> float:
        """Mean time from the start of the launch before to those of these layers."""
        return fmean(
            after.start_ns - before.start_ns
            for before, after in pairwise(self.launches)
            if after.layer in layers
        )


def measure_touching(
    device: DeviceSpec, source: str, *, progress: Progress | None = None
) -> Quantity:
    """What a byte of memory that nothing has touched takes the kernel that writes it, ns.

    Args:
        device: an OpenCL device of this machine.
        source: what the quantity names as its source.
        progress: told of kernels built and layers run.

    Raises:
        DeviceError: it cannot run the sample.
    """
    model = lower(touching_graph(), device)
    plan = make_plan(model, device, budget=room(model, device))
    [sessions] = _sessions(model, device, [plan], progress)
    longer_ns = [
        runs[0].kernels_ns - median(run.kernels_ns for run in runs[1:]) for runs in sessions
    ]
    written = sum(layer.bytes_written for layer in model.layers)
    return Quantity(
        max(0.0, median(longer_ns)) / written, f"{source}: a sum's first run and later ones"
    )


def measure_host(device: DeviceSpec, source: str, *, progress: Progress | None = None) -> Host:
    """Runs the network with its weights on the device, and streamed in much and in little room.

    Args:
        device: an OpenCL device of this machine, with what its reads and new memory take.
        source: what the quantities name as their source.
        progress: told of kernels built and layers run.

    Raises:
        DeviceError: it cannot run the network.
    """
    model = lower(network_graph(), device)
    never = Constraints(stream=tuple(model.weight_uses()))
    plans = [
        make_plan(model, device, budget=room(model, device)),
        make_plan(model, device, budget=Budget(share=ROOMY), constraints=never),
        make_plan(model, device, budget=Budget(share=TIGHT), constraints=never),
    ]
    said = f"{source}: a network of small layers"
    resident, roomy, tight, again = _sessions(model, device, plans, progress, recorded=plans[0])
    later = [run for runs in resident for run in runs[1:]]
    start_ns = median(run.besides_ns for run in later)
    own_ns = _undisturbed(device, len(model.layers), progress)
    whole_ns = median(run.ns for run in later) - start_ns
    launch_ns = max(0.0, (whole_ns - sum(own_ns)) / len(own_ns))
    replayed = [run.ns for runs in again for run in runs if run.replayed]
    replayed_ns = NO_TIME
    if replayed:
        added_ns = (median(replayed) - start_ns - sum(own_ns)) / len(own_ns)
        replayed_ns = Quantity(max(1.0, added_ns), f"{said}, recorded")  # 0 would be "unknown"
    problem = replace(
        build_problem(model, device, plans[0].transport),
        duration_ns=np.array(own_ns) + launch_ns,
        host=replace(device.host, start_ns=Quantity(start_ns, said)),
    )
    later_ns = [median(run.ns for runs in seen for run in runs[1:]) for seen in (roomy, tight)]
    streamed_ns = not_told(problem, plans[1], later_ns[0]) / len(plans[1].streamed)
    host = replace(problem.host, streamed_ns=Quantity(streamed_ns, f"{said}, streamed"))
    crowded_ns = not_told(replace(problem, host=host), plans[2], later_ns[1]) / len(own_ns)
    new = [runs[0] for runs in resident]
    loading = {layer.index for layer in model.layers if layer.weights}
    others = {layer.index for layer in model.layers} - loading
    return Host(
        times=replace(
            host,
            first_start_ns=Quantity(median(run.besides_ns for run in new), f"{said}, a first run"),
            first_layer_ns=Quantity(
                median(run.apart_ns(others) for run in new), f"{said}, those without weights"
            ),
            crowded_ns=Quantity(crowded_ns, f"{said}, streamed within the least budget"),
            replayed_ns=replayed_ns,
        ),
        first_launch_ns=Quantity(
            median(run.apart_ns(loading) for run in new), f"{said}, those that load weights"
        ),
        launch_ns=Quantity(launch_ns, f"{said}, less what its kernels take behind a long one"),
    )


def _undisturbed(device: DeviceSpec, layers: int, progress: Progress | None) -> list[float]:
    """What each of the network's layers takes when the host has nothing left to do, ns."""
    model = lower(network_graph(behind_head=True), device)
    plan = make_plan(model, device, budget=room(model, device))
    [sessions] = _sessions(model, device, [plan], progress)
    usual_ns = usual_launches(
        event for runs in sessions for run in runs[1:] for event in run.launches
    )
    return [usual_ns[layer.index] for layer in model.layers[-layers:]]  # the head may have tiles


def _sessions(
    model: LoweredModel,
    device: DeviceSpec,
    plans: Sequence[Plan],
    progress: Progress | None,
    *,
    recorded: Plan | None = None,
) -> list[list[list[TimedRun]]]:
    """For each plan the runs of each session; plans take turns on the same swings of a machine.

    Args:
        model: what runs.
        device: where.
        plans: of it, launched one by one.
        progress: told of kernels built and layers run.
        recorded: one more plan, whose launches are recorded if the device can.
    """
    ways = [(plan, Launching.SINGLE) for plan in plans]
    ways += [(recorded, Launching.RECORDED)] if recorded is not None else []
    found: list[list[list[TimedRun]]] = [[] for _ in ways]
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder:
        packed = pack_weights(model, Path(folder))
        programs = [build_program(plan, model, packed) for plan, _ in ways]
        arrays = sample_inputs(programs[0])
        for _ in range(SESSIONS):
            for program, (_, launching), sessions in zip(programs, ways, found, strict=True):
                with closing(open_runtime(device, launching=launching)) as runtime:
                    done = runtime.run(
                        program, packed.path, arrays, repeat=REPEAT, progress=progress
                    )
                took_ms = (done.first_run_ms, *done.warm_ms)
                events = done.trace.timeline.events
                replayed = {event.run for event in events if event.kind == "replay"}
                sessions.append(
                    [
                        TimedRun(_launches(events, run), took_ms[run] * 1e6, run in replayed)
                        for run in range(REPEAT)
                    ]
                )
    return found


def _launches(events: Iterable[Event], run: int) -> tuple[Event, ...]:
    chosen = [event for event in events if event.kind == "launch" and event.run == run]
    return tuple(sorted(chosen, key=lambda event: event.start_ns))


def not_told(problem: Problem, plan: Plan, took_ns: float) -> float:
    """By how much a later run of `plan` took longer than the planner's clock says, ns."""
    pinned, load_at = steps_of(plan, problem)
    in_run = told(problem, pinned, load_at, cold=False)
    return max(0.0, took_ns - run_ns(in_run, pinned, load_at, cold=False))
