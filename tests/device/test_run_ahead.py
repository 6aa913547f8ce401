"""The host runs ahead of the device, and the time of a run has its owners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program.program import KernelSource, Program
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.trace import profile_of

Make = Callable[..., Any]
_SPINS = {
    "cpu": 400
}  # some 80 ms a launch on two cores: a host that is kept waiting is little beside
_SPINS_OF_GPUS = 3_000_000


def slow(program: Program, kind: str) -> Program:
    """The same program with kernels that take some tens of ms each."""
    times = _SPINS.get(kind, _SPINS_OF_GPUS)
    # What it comes to is looked at, else a compiler may leave it out.
    spin = (
        f"volatile float spin = 1; for (int n = 0; n < {times}; ++n) spin = spin * 0.5f + 1; "
        "if (spin < 0) return;"
    )
    kernels = [
        KernelSource(one.entry, one.source.replace("  vstore4(", f"  {spin}\n  vstore4("))
        for one in program.kernels
    ]
    return replace(program, kernels=tuple(kernels))


@pytest.mark.parametrize("transport", list(Transport))
def test_time_belongs_to_layers_transfers_disk_or_stalls(
    runtime: OpenCLRuntime, make_chain: Make, transport: Transport
) -> None:
    chain = make_chain(layers=8, transport=transport)
    program = slow(chain.program, runtime.spec.kind)
    result = runtime.run(program, chain.packed.path, chain.inputs, repeat=4)
    walls_ms = (result.first_run_ms, *result.warm_ms)
    profile = profile_of(result.trace, walls_ms, program.costs, runtime.spec)
    assert max(run.attributed for run in profile.runs) >= 0.95
    best = min(profile.runs, key=lambda run: run.wall_ms)
    assert best.handing_ms <= 0.05 * best.wall_ms  # the host runs ahead, whatever it does
    for run in profile.runs:
        parts = (
            run.layers_ms,
            run.launching_ms,
            run.handing_ms,
            run.transfer_ms,
            run.disk_ms,
            run.stall_ms,
        )
        assert min(parts) >= 0
        assert sum(parts) <= run.wall_ms * (1 + 1e-9)
    assert {layer.index for layer in profile.layers} == set(range(8))
    assert min(layer.ms for layer in profile.layers) > 0


def test_no_launch_waits_for_the_host(runtime: OpenCLRuntime, make_chain: Make) -> None:
    """With its weights there, every layer is with the device before the first one is over."""
    chain = make_chain(layers=8, preloaded=range(8))
    result = runtime.run(
        slow(chain.program, runtime.spec.kind), chain.packed.path, chain.inputs, repeat=2
    )
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    launches = [
        e
        for e in result.trace.timeline.events
        if e.run == 1 and e.lane is Lane.COMPUTE and e.kind == "launch"
    ]
    assert max(e.queued_ns for e in launches) <= min(e.end_ns for e in launches)


def test_ended_blocks_stay_below_the_peak(runtime: OpenCLRuntime, make_chain: Make) -> None:
    chain = make_chain(layers=8, ahead=2, transport=Transport.COPY)
    result = runtime.run(chain.program, chain.packed.path, chain.inputs, repeat=3)
    held = int(result.trace.notes["held_peak_bytes"])
    assert 0 < held <= chain.program.predicted_peak_bytes == result.peak_bytes["total"]
