"""The profiler: runs the sample graph on a device and fits its DeviceSpec to what was seen."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from flashmem_lab.device.spec import DeviceSpec, HostTimes, Quantity, Transport
from flashmem_lab.devices import SIMULATED, open_runtime
from flashmem_lab.errors import UsageError
from flashmem_lab.lower import LoweredModel, lower
from flashmem_lab.plan import make_plan
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.profiling.contention import measure_reading, usual_launches
from flashmem_lab.profiling.fit import Launched, compute_rates, fit_kind, memory_rate
from flashmem_lab.profiling.host import measure_host, measure_touching
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import sample_graph
from flashmem_lab.profiling.tune import tune
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import Progress
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.samples import sample_inputs

REPEAT = 12
"""Runs; the median time of each launch counts, as that of its runs does for a model."""


def profile_device(device: DeviceSpec, *, progress: Progress | None = None) -> DeviceSpec:
    """Measures a device; takes half a minute for that, and up to a minute and a half for tiles.

    Args:
        device: an OpenCL device of this machine, or a phone.
        progress: told of kernels built and layers run.

    Returns:
        The device with the rates that were measured, each with its source.

    Raises:
        UsageError: the device is simulated.
        DeviceError: it cannot run the samples.
    """
    if device.id.startswith(SIMULATED):
        raise UsageError(
            f"{device.id} is simulated: there is nothing to measure",
            hint="flashmem-lab devices lists the OpenCL devices of this machine, and phones",
        )
    device = replace(device, tuning=tune(device, progress=progress))
    graph = sample_graph()
    model = lower(graph, device)
    plan = make_plan(model, device, budget=room(model, device))
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder:
        packed = pack_weights(model, Path(folder), progress=progress)
        program = build_program(plan, model, packed)
        arrays = sample_inputs(program)
        with closing(open_runtime(device, launching=Launching.SINGLE)) as runtime:
            result = runtime.run(program, packed.path, arrays, repeat=REPEAT, progress=progress)
    events = result.trace.timeline.events
    usual_ns = usual_launches(event for event in events if event.run)
    copies = plan.transport is Transport.COPY
    source = f"measured {datetime.now(UTC).date()} by `flashmem-lab profile`, {device.driver}"
    head = graph.nodes[0].name
    behind = {at: ns for at, ns in usual_ns.items() if head not in model.layers[at].nodes}
    launches = _launches(model, behind)
    by_kind: dict[str, list[Launched]] = defaultdict(list)
    for launch in launches:
        by_kind[launch.kind].append(launch)
    best = f"{source}: the best of all sample kernels"
    uploaded = [event for event in events if event.lane is Lane.TRANSFER]
    touching = HostTimes(first_touch_ns=measure_touching(device, source, progress=progress))
    device = replace(device, host=touching)
    first, reading = measure_reading(device, source, progress=progress)
    read = replace(
        device,
        disk=reading.disk,
        contention=reading.contention,
        first_run=first,
        # Where reads land in the mapped image there is nothing to upload.
        upload=Quantity(_rate(uploaded), source) if copies else device.upload,
    )
    host = measure_host(read, source, progress=progress)
    return replace(
        read,
        memory=Quantity(memory_rate(launches), best),
        compute={**device.compute, **compute_rates(launches, best)},
        launch_ns=host.launch_ns,
        kinds={kind: fit_kind(launches, source) for kind, launches in sorted(by_kind.items())},
        first_launch_ns=host.first_launch_ns,
        host=host.times,
    )


def _launches(model: LoweredModel, usual_ns: Mapping[int, float]) -> list[Launched]:
    """What each layer asks for, and what it usually takes."""
    return [
        Launched(
            kind=model.layers[at].kind,
            op_class=model.layers[at].op_class.value,
            flops=model.layers[at].flops,
            bytes=model.layers[at].bytes_read + model.layers[at].bytes_written,
            took_ns=max(1.0, took),
        )
        for at, took in usual_ns.items()
    ]


def _rate(moves: list[Event]) -> float:
    """Bytes/s while something moved."""
    busy = sum(event.end_ns - event.start_ns for event in moves)
    return sum(event.bytes for event in moves) / max(1, busy) * 1e9
