"""How fast weights come while layers run, and what the layers lose meanwhile."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median

from flashmem_lab.device.spec import DeviceSpec, Quantity, Reading
from flashmem_lab.devices import open_runtime
from flashmem_lab.lower import lower
from flashmem_lab.plan import Constraints, Plan, make_plan
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import products_graph
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import Progress
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget

SESSIONS = 3
"""Times that the device is opened: each has a first run."""

REPEAT = 5
"""Runs of each."""

ROOM = 0.3
"""Budget: room to read some products ahead, so that reads and kernels overlap."""

MOST = 0.9
"""Of their pace that kernels may lose to reads: above that it was something else."""


def measure_reading(
    device: DeviceSpec, source: str, *, progress: Progress | None = None
) -> tuple[Reading, Reading]:
    """Disk and contention of first runs and of later ones, from products, in seconds.

    The products run with their weights on the device, where only first runs read, and streamed.

    Args:
        device: an OpenCL device of this machine.
        source: what the quantities name as their source.
        progress: told of kernels built and layers run.

    Raises:
        DeviceError: it cannot run the products.
    """
    model = lower(products_graph(), device)
    never = Constraints(stream=tuple(model.weight_uses()))
    resident = make_plan(model, device, budget=room(model, device))
    moving = make_plan(model, device, budget=Budget(share=ROOM), constraints=never)
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder:
        packed = pack_weights(model, Path(folder))

        def session(plan: Plan) -> tuple[list[Event], list[Event]]:
            """Events of the first run, and of the others."""
            program = build_program(plan, model, packed)
            arrays = sample_inputs(program)
            with closing(open_runtime(device)) as runtime:
                done = runtime.run(program, packed.path, arrays, repeat=REPEAT, progress=progress)
            events = done.trace.timeline.events
            return [event for event in events if not event.run], [e for e in events if e.run]

        sessions = [session(resident) for _ in range(SESSIONS)]
        usual_ns = usual_launches(event for _, later in sessions for event in later)
        alike = f"{source}: products, weights "
        first = [
            reading_of(events, usual_ns, f"{alike}read into new memory") for events, _ in sessions
        ]
        later_ones = [
            reading_of(later, usual_ns, f"{alike}streamed")
            for _, later in (session(moving) for _ in range(SESSIONS))
        ]
        return _middle(first), _middle(later_ones)


def usual_launches(events: Iterable[Event]) -> dict[int, float]:
    """Median time of each layer's launch over some runs, ns."""
    took_ns: dict[int, list[int]] = defaultdict(list)
    for event in events:
        if event.kind == "launch":
            took_ns[event.layer].append(event.end_ns - event.start_ns)
    return {layer: median(took) for layer, took in took_ns.items()}


def reading_of(events: Sequence[Event], usual_ns: Mapping[int, float], source: str) -> Reading:
    """What runs with reads beside their launches show.

    Launches that took `excess` longer in all than they usually do, and had reads beside them for
    `overlap`, lost excess / overlap of their pace meanwhile, 0 to MOST. Whatever a read does to a
    launch counts, also afterwards: weights that a core has written lie in that core's cache.
    The usual pause between two reads belongs to the disk's time; longer ones wait for memory.

    Args:
        events: of one or more runs, with reads.
        usual_ns: time of each layer's launch without any, ns.
        source: what the quantities name as their source.
    """
    reads = [event for event in events if event.lane is Lane.DISK]
    excess = overlap = 0.0
    for launch in events:
        if launch.kind == "launch":
            excess += launch.end_ns - launch.start_ns - usual_ns[launch.layer]
            overlap += sum(
                max(0, min(read.end_ns, launch.end_ns) - max(read.start_ns, launch.start_ns))
                for read in reads
                if read.run == launch.run
            )
    lost = min(max(excess / overlap, 0.0), MOST) if overlap else 0.0
    busy_ns = float(sum(read.end_ns - read.start_ns for read in reads))
    pauses: list[int] = [
        after.start_ns - before.end_ns
        for before, after in pairwise(reads)
        if before.run == after.run
    ]
    busy_ns += len(reads) * median(pauses or [0])
    rate = sum(read.bytes for read in reads) / max(1, busy_ns) * 1e9
    return Reading(Quantity(rate, source), Quantity(lost / (1 - lost), source))


def _middle(readings: Sequence[Reading]) -> Reading:
    """The median of each of their parts."""
    disk = sorted((reading.disk for reading in readings), key=lambda one: one.value)
    lost = sorted((reading.contention for reading in readings), key=lambda one: one.value)
    return Reading(disk[len(disk) // 2], lost[len(lost) // 2])
