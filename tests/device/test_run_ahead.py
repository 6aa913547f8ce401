"""The host runs ahead of the device, and the time of a run has its owners."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import CacheCorrupt
from flashmem_lab.plan.timeline import Lane
from flashmem_lab.program.program import KernelSource, Program
from flashmem_lab.runtime.opencl import OpenCLRuntime, engine
from flashmem_lab.trace import profile_of

Make = Callable[..., Any]
_SPINS = {"cpu": 100}  # some 20 ms a launch on two cores
_SPINS_OF_GPUS = 50_000


def slow(program: Program, kind: str) -> Program:
    """The same program with kernels that take some tens of ms each."""
    (kernel,) = program.kernels
    times = _SPINS.get(kind, _SPINS_OF_GPUS)
    spin = f"volatile float spin = 1; for (int n = 0; n < {times}; ++n) spin = spin * 0.5f + 1;"
    source = kernel.source.replace("  vstore4(", f"  {spin}\n  vstore4(")
    return replace(program, kernels=(KernelSource(kernel.entry, source),))


@pytest.mark.parametrize("transport", [Transport.MAP, Transport.COPY])
def test_time_belongs_to_layers_transfers_disk_or_stalls(
    runtime: OpenCLRuntime, make_chain: Make, transport: Transport
) -> None:
    chain = make_chain(layers=8, transport=transport)
    program = slow(chain.program, runtime.spec.kind)
    result = runtime.run(program, chain.packed.path, chain.inputs, repeat=3)
    walls_ms = (result.first_run_ms, *result.warm_ms)
    profile = profile_of(result.trace, walls_ms, program.costs, runtime.spec)
    assert max(run.attributed for run in profile.runs) >= 0.95
    for run in profile.runs:
        parts = (run.layers_ms, run.launching_ms, run.transfer_ms, run.disk_ms, run.stall_ms)
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


def test_chunks_are_read_side_by_side_and_uploaded_in_order(
    runtime: OpenCLRuntime, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "readers", lambda *_: 3)
    chain = make_chain(layers=6, transport=Transport.COPY, ahead=2)
    more = 2 * chain.program.slot_bytes  # four slots instead of two
    program = replace(
        chain.program,
        staging_bytes=chain.program.staging_bytes + more,
        predicted_peak_bytes=chain.program.predicted_peak_bytes + more,
        budget_bytes=chain.program.budget_bytes + more,
    )
    for _ in range(3):
        result = runtime.run(program, chain.packed.path, chain.inputs, repeat=2)
        np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    events = result.trace.timeline.events
    reads = [e for e in events if e.kind == "read" and e.run == 1]
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(reads))
    assert [e.weight for e in reads] == [r.weight for r in program.disk]
    uploads = [e.weight for e in events if e.kind == "upload" and e.run == 1]
    assert uploads == [up.weight for up in program.transfer]


def test_damage_met_by_a_reader_ends_the_run(
    runtime: OpenCLRuntime, make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "readers", lambda *_: 2)
    chain = make_chain(layers=6, transport=Transport.COPY)
    more = chain.program.slot_bytes
    program = replace(
        chain.program,
        staging_bytes=chain.program.staging_bytes + more,
        predicted_peak_bytes=chain.program.predicted_peak_bytes + more,
        budget_bytes=chain.program.budget_bytes + more,
    )
    with chain.packed.path.open("r+b") as file:
        file.seek(chain.packed.spans["w4"].offset)
        file.write(b"damage")
    with pytest.raises(CacheCorrupt, match="w4"):
        runtime.run(program, chain.packed.path, chain.inputs)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("flashmem-")]
