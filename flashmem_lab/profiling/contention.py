"""What kernels lose while weights are on their way: products alike, some of them beside reads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from flashmem_lab.device.spec import DeviceSpec, Quantity
from flashmem_lab.devices import open_runtime
from flashmem_lab.lower import lower
from flashmem_lab.plan import Constraints, make_plan
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.profiling.samples import products_graph
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import Progress
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget

REPEAT = 12
"""Runs; the first one is left out."""

ROOM = 0.3
"""Budget: room to read some products ahead, so that reads and kernels overlap, but not always."""

BESIDE, ALONE = 0.5, 0.1
"""Shares of its time that a launch spends beside reads, from which and up to which it counts."""

MOST = 0.9
"""Of their pace that kernels may lose to reads: above that it was something else."""


def measure_contention(
    device: DeviceSpec, source: str, *, progress: Progress | None = None
) -> Quantity:
    """`DeviceSpec.contention`, from products of one size, in about a second.

    Args:
        device: an OpenCL device of this machine.
        source: what the quantity names as its source.
        progress: told of kernels built and layers run.

    Raises:
        DeviceError: it cannot run the products.
    """
    model = lower(products_graph(), device)
    streamed = Constraints(stream=tuple(model.weight_uses()))
    plan = make_plan(model, device, budget=Budget(share=ROOM), constraints=streamed)
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as folder:
        packed = pack_weights(model, Path(folder))
        program = build_program(plan, model, packed)
        arrays = sample_inputs(program)
        with closing(open_runtime(device)) as runtime:
            result = runtime.run(program, packed.path, arrays, repeat=REPEAT, progress=progress)
    lost = lost_beside_reads(result.trace.timeline.events)
    return Quantity(lost / (1 - lost), f"{source}: products while weights were read")


def lost_beside_reads(events: Sequence[Event]) -> float:
    """Share of their pace that launches lose while the disk reads, 0 to MOST.

    A launch that takes `excess` longer than those without reads, and has reads beside it for
    `overlap`, lost excess / overlap. The median counts: what else disturbs a launch makes it
    longer, and so more likely to have a read beside it.

    Args:
        events: of runs whose launches are alike; the first run is left out.
    """
    reads = [event for event in events if event.lane is Lane.DISK]
    alone: list[int] = []
    beside: list[tuple[int, int]] = []
    for launch in events:
        if launch.kind != "launch" or not launch.run:
            continue
        took = launch.end_ns - launch.start_ns
        overlap = sum(
            max(0, min(read.end_ns, launch.end_ns) - max(read.start_ns, launch.start_ns))
            for read in reads
            if read.run == launch.run
        )
        if overlap <= ALONE * took:
            alone.append(took)
        elif overlap >= BESIDE * took:
            beside.append((took, overlap))
    if not alone or not beside:
        return 0.0
    usual = median(alone)
    return min(max(median((took - usual) / overlap for took, overlap in beside), 0.0), MOST)
