"""How fast weights come while layers run, and what the layers lose meanwhile."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from statistics import fmean, median

from flashmem_lab.device.spec import DeviceSpec, Quantity, Reading
from flashmem_lab.devices import open_runtime
from flashmem_lab.lower import lower
from flashmem_lab.plan import Constraints, Plan, make_plan
from flashmem_lab.plan.problem import build_problem
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import products_graph
from flashmem_lab.program import build_program, pack_weights
from flashmem_lab.runtime.base import Progress
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.samples import sample_inputs
from flashmem_lab.units import Budget

SESSIONS = 5
"""Times that the device is opened: each has a first run."""

REPEAT = 5
"""Runs of each."""

ROOM = 0.3
"""Budget: room to read some products ahead, so that reads and kernels overlap."""

SMALL = 64 * 1024
"""Bytes of a weight that is read in no time."""

MOST = 0.9
"""Of their pace that kernels may lose to reads: above that it was something else."""


def measure_reading(
    device: DeviceSpec, source: str, *, progress: Progress | None = None
) -> tuple[Reading, Reading]:
    """Disk and contention of first runs and of later ones, from products, in seconds.

    The products run with their weights on the device, where only first runs read, and streamed.

    Args:
        device: an OpenCL device of this machine, with what new memory takes.
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

        def session(plan: Plan) -> list[list[Event]]:
            """Events of each run."""
            program = build_program(plan, model, packed)
            arrays = sample_inputs(program)
            with closing(open_runtime(device, launching=Launching.SINGLE)) as runtime:
                done = runtime.run(program, packed.path, arrays, repeat=REPEAT, progress=progress)
            events = done.trace.timeline.events
            return [[event for event in events if event.run == run] for run in range(REPEAT)]

        sessions = [session(resident) for _ in range(SESSIONS)]
        usual_ns = usual_launches(chain.from_iterable(chain(*(runs[1:] for runs in sessions))))
        streamed = list(chain(*(session(moving)[1:] for _ in range(SESSIONS))))
        alike = f"{source}: products, weights "
        new = [runs[0] for runs in sessions]
        held = int(build_problem(model, device, resident.transport).activation.max())
        touched = min(held, sum(layer.bytes_written for layer in model.layers))
        touching_ns = touched * device.host.first_touch_ns.value
        return (
            reading_of(
                new, usual_ns, f"{alike}read for the first time", apart=True, other_ns=touching_ns
            ),
            reading_of(streamed, usual_ns, f"{alike}streamed"),
        )


def usual_launches(events: Iterable[Event]) -> dict[int, float]:
    """Median time of each layer's launch over some runs, ns."""
    took_ns: dict[int, list[int]] = defaultdict(list)
    for event in events:
        if event.kind == "launch":
            took_ns[event.layer].append(event.end_ns - event.start_ns)
    return {layer: median(took) for layer, took in took_ns.items()}


def reading_of(
    runs: Sequence[Sequence[Event]],
    usual_ns: Mapping[int, float],
    source: str,
    *,
    apart: bool = False,
    other_ns: float = 0.0,
) -> Reading:
    """What runs with reads beside their launches show: the median of them, part by part.

    Launches that took `excess` longer in all than they usually do, and had reads beside them for
    `overlap`, lost excess / overlap of their pace meanwhile, 0 to MOST. Whatever a read does to a
    launch counts, also afterwards: weights that a core has written lie in that core's cache, and
    pages that were just mapped are looked up anew. Where that exceeds MOST of the overlap it is
    spread over all reads, which count as longer if that is not enough. The usual pause between two
    reads is theirs too; longer ones wait for memory.

    Args:
        runs: events of each of some runs of one program, with reads.
        usual_ns: time of each layer's launch without any, ns.
        source: what the quantities name as their source.
        apart: whether what each weight takes besides is told apart from the rate: as long as the
            small ones take.
        other_ns: by which the launches of a run took longer for another reason.
    """
    seen = [_Seen.of(events, usual_ns) for events in runs]
    excess, overlap = (median(getattr(one, of) for one in seen) for of in ("excess", "overlap"))
    excess -= other_ns
    besides_ns = median(one.small_ns for one in seen) if apart else 0.0
    besides = seen[0].weights * besides_ns
    busy_ns = max(median(one.busy_ns for one in seen) - besides, 0.0)
    if excess > MOST * overlap:
        overlap = max(busy_ns, excess / MOST)
        busy_ns = max(busy_ns, overlap - besides)
    lost = max(excess / overlap, 0.0) if overlap else 0.0
    return Reading(
        Quantity(seen[0].bytes / max(1.0, busy_ns) * 1e9, source),
        Quantity(lost / (1 - lost), source),
        Quantity(besides_ns, f"{source}, those of at most {SMALL} bytes"),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """One run with reads beside its launches.

    Attributes:
        excess: what its launches took longer than they usually do, ns.
        overlap: of launches and reads, ns.
        busy_ns: its reads, with the usual pause behind each.
        small_ns: of a small weight, with the pause; 0 where there is none. The mean: where threads
            share cores, a few take a hundred times as long as the others.
        weights, bytes: that were read.
    """

    excess: float
    overlap: float
    busy_ns: float
    small_ns: float
    weights: int
    bytes: int

    @classmethod
    def of(cls, events: Sequence[Event], usual_ns: Mapping[int, float]) -> _Seen:
        # Of weights that stay in pinned host memory nothing is read: their copies bring them.
        brought = {event.lane for event in events} & {Lane.DISK, Lane.TRANSFER}
        bringing = Lane.DISK if Lane.DISK in brought else Lane.TRANSFER
        reads = [event for event in events if event.lane is bringing]
        launches = [event for event in events if event.kind == "launch"]
        pauses: list[float] = [after.start_ns - before.end_ns for before, after in pairwise(reads)]
        pause_ns = median(pauses or [0.0])
        took_ns: dict[str, float] = defaultdict(float)
        sizes: dict[str, int] = defaultdict(int)
        for read in reads:
            took_ns[read.weight] += read.end_ns - read.start_ns + pause_ns
            sizes[read.weight] += read.bytes
        return cls(
            excess=sum(one.end_ns - one.start_ns - usual_ns[one.layer] for one in launches),
            overlap=sum(_both_ns(read, launch) for launch in launches for read in reads),
            busy_ns=sum(took_ns.values()),
            small_ns=fmean([took_ns[w] for w, size in sizes.items() if size <= SMALL] or [0.0]),
            weights=len(sizes),
            bytes=sum(sizes.values()),
        )


def _both_ns(one: Event, other: Event) -> int:
    """Time during which both went on."""
    return max(0, min(one.end_ns, other.end_ns) - max(one.start_ns, other.start_ns))
