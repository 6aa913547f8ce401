"""The predicted timeline of a plan: what each lane does and what each pool holds, run by run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.lower.layer import HostCall, LoweredModel, RowFetch
from flashmem_lab.plan.clock import Run, run_clock
from flashmem_lab.plan.inline import InlineRun, planned_steps, run_inline
from flashmem_lab.plan.plan import Plan
from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem, build_problem, held_between
from flashmem_lab.plan.timeline import Event, Lane, MemorySample, Pool, Timeline
from flashmem_lab.plan.told import told


def simulate(
    plan: Plan,
    model: LoweredModel,
    device: DeviceSpec,
    *,
    runs: int = 2,
    by_weight: bool = False,
) -> Timeline:
    """Runs `plan` on the clock of the device's rates, the first run cold, later ones warm.

    Deterministic. Each run's times start at 0, as each measured run's do; events and samples are
    sorted by run, then by time. Memory is sampled per pool after the frees and after the
    allocations of every step that has any.

    Args:
        plan: a valid plan (`check_plan`).
        model: what it was made for.
        device: the same.
        runs: how many; a run after the first reads only streamed weights.
        by_weight: one read and one upload for each weight, from the start of its first chunk to
            the end of its last: a tenth of the time where a model has thousands of chunks.
    """
    problem = build_problem(model, device, plan.transport, chunk_bytes=plan.chunk_bytes)
    pinned, load_at = steps_of(plan, problem)
    kinds = [_kind(layer.work) for layer in model.layers]
    lifetimes = model.lifetimes()
    events: list[Event] = []
    samples: list[MemorySample] = []
    steps = planned_steps(plan, problem)
    for number in range(runs):
        cold = number == 0
        barrier = plan.barrier and cold
        in_run = told(problem, pinned, load_at, cold=cold)
        if number < 2:  # warm runs are alike
            if plan.transport is Transport.INLINE:
                inline = run_inline(
                    problem, pinned, load_at, cold=cold, barrier=barrier, steps=steps
                )
                run, carrying = inline.run, _carrying(problem, inline)
            else:
                run = run_clock(problem, pinned, load_at, cold=cold, barrier=barrier)
                carrying = _CARRYING_NOTHING
        found = _events(in_run, run, kinds, number, carrying, by_weight=by_weight)
        events += sorted(found, key=lambda event: event.start_ns)
        samples += _samples(problem, plan, run, load_at, lifetimes, model.buffers, number)
    return Timeline(tuple(events), tuple(samples))


def steps_of(plan: Plan, problem: Problem) -> tuple[Mask, Ints]:
    """((n,) weights that `plan` pins, (n,) step at which it has each one's object made)."""
    pinned = problem.mask(plan.preloaded)
    load_at = np.where(pinned, 0, problem.first)
    for streamed in plan.streamed:
        load_at[problem.index[streamed.weight]] = streamed.load_at
    return pinned, load_at


def _kind(work: object) -> str:
    if isinstance(work, HostCall):
        return "host"
    return "rows" if isinstance(work, RowFetch) else "launch"


# --- events --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Carrying:
    """What the compute lane moves itself (`inline`).

    Attributes:
        bytes: moved by each layer's kernel.
        apart: what kernels of their own move for each layer: weight, (start, end) ns, bytes.
        last: the weight of the last chunk that each layer carries.
    """

    bytes: Mapping[int, int]
    apart: Mapping[int, list[tuple[str, tuple[int, int], int]]]
    last: Mapping[int, str]


_CARRYING_NOTHING = _Carrying({}, {}, {})


def _carrying(problem: Problem, inline: InlineRun) -> _Carrying:
    owner, size = _chunks(problem, inline.run)
    moved: dict[int, int] = {}
    apart: dict[int, list[tuple[str, tuple[int, int], int]]] = {}
    last: dict[int, str] = {}
    rows = zip(
        inline.order,
        owner.tolist(),
        size.tolist(),
        _ns(inline.run.upload).tolist(),
        strict=True,
    )
    for step, weight, count, (start, end) in rows:
        name, layer = problem.weights[weight], step.layer
        if step.apart:
            apart.setdefault(layer, []).append((name, (start, end), count))
        else:
            moved[layer] = moved.get(layer, 0) + count
            last[layer] = name
    return _Carrying(moved, apart, last)


def _chunks(problem: Problem, run: Run) -> tuple[Ints, Ints]:
    """(weight of each chunk, its bytes), in the order of the reads."""
    owner = np.repeat(run.order, problem.chunks[run.order])
    size = problem.chunk[owner]
    ends = np.cumsum(problem.chunks[run.order]) - 1
    size[ends] = problem.tail[run.order]
    return owner, size


def _events(
    problem: Problem,
    run: Run,
    kinds: list[str],
    number: int,
    carrying: _Carrying,
    *,
    by_weight: bool,
) -> Iterator[Event]:
    names = problem.weights
    read, upload = run.read, run.upload
    if by_weight:
        owner, size = run.order, problem.size[run.order]
        ends = np.cumsum(problem.chunks[run.order]) - 1
        starts = ends - problem.chunks[run.order] + 1
        read, upload = (
            np.stack((times[starts, 0], times[ends, 1]), axis=1) for times in (read, upload)
        )
    else:
        owner, size = _chunks(problem, run)
    uses = problem.first[owner]
    lanes = [(Lane.DISK, "read", read)]
    if problem.transport is Transport.COPY:
        lanes.append((Lane.TRANSFER, "upload", upload))
    for lane, kind, times in lanes:
        rows = zip(_ns(times).tolist(), owner.tolist(), size.tolist(), uses.tolist(), strict=True)
        for (start, end), at, count, use in rows:
            moved = names[at]
            yield Event(lane, kind, moved, use, moved, start, end, count, number)
    awaited = carrying.last or _awaited(problem, run)
    free = round(problem.start_ns)
    layers = zip(_ns(run.start).tolist(), _ns(run.end).tolist(), kinds, problem.layers, strict=True)
    for layer, (start, end, kind, name) in enumerate(layers):
        for weight, (begin, done), count in carrying.apart.get(layer, ()):
            if begin > free:
                yield Event(Lane.COMPUTE, "stall", name, layer, weight, free, begin, 0, number)
            yield Event(Lane.COMPUTE, "upload", weight, layer, weight, begin, done, count, number)
            free = done
        if start > free:
            weight = awaited.get(layer, "")
            yield Event(Lane.COMPUTE, "stall", name, layer, weight, free, start, 0, number)
        carried = carrying.bytes.get(layer, 0)
        yield Event(Lane.COMPUTE, kind, name, layer, "", start, end, carried, number)
        free = end


def _awaited(problem: Problem, run: Run) -> dict[int, str]:
    """The weight that each layer waits for last; under a barrier the last of all is layer 0's."""
    latest = {int(problem.first[at]): problem.weights[at] for at in run.order.tolist()}
    if len(run.order) and run.start[0] > problem.start_ns:
        before = run.order[run.arrival <= run.start[0]]
        latest[0] = problem.weights[before[-1]]
    return latest


def _ns(times: Floats) -> Ints:
    return np.rint(times).astype(np.int64)


# --- memory --------------------------------------------------------------------------------


def _samples(
    problem: Problem,
    plan: Plan,
    run: Run,
    load_at: Ints,
    lifetimes: Mapping[str, tuple[int, int]],
    buffers: Mapping[str, int],
    number: int,
) -> list[MemorySample]:
    """Held in each pool: a step's frees happen when its layer ends, then the next one's allocs."""
    pinned = problem.mask(plan.preloaded)
    streamed: Mask = ~pinned
    kept = int(problem.size[pinned].sum())
    spans = np.array(list(lifetimes.values()), dtype=np.int64).reshape(-1, 2)
    bytes_ = np.array([buffers[name] for name in lifetimes], dtype=np.int64)
    pools = {
        Pool.TEXTURE: (kept, load_at[streamed], problem.last[streamed], problem.size[streamed]),
        Pool.BUFFER: (0, spans[:, 0], spans[:, 1], bytes_),
    }
    steps = len(problem.layers)
    levels = {
        # What lives on from the step before, then with what the step creates; none after the last.
        pool: (
            (base + held_between(first + 1, last + 1, size, steps + 1)).tolist(),
            (base + held_between(first, last + 1, size, steps + 1)).tolist(),
        )
        for pool, (base, first, last, size) in pools.items()
    }
    found = [MemorySample(0, Pool.STAGING, plan.staging_bytes, number)]
    held = dict.fromkeys(pools, -1)
    for step, time in enumerate([0, *_ns(run.end).tolist()]):
        for phase in (0, 1):  # every pool's frees come before any pool's allocations
            for pool, phases in levels.items():
                level = phases[phase][step]
                if level != held[pool] and (step or phase):
                    held[pool] = level
                    found.append(MemorySample(time, pool, level, number))
    return found
