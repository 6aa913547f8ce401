"""Greedy schedules, one for each objective, within a budget that holds the least feasible plan.

What is guaranteed, on the clock of `clock.py` (hypothesis tests hold each of these):
- every schedule stays within the budget at every step, in the first run and in later ones;
- `cold`: the first run's time never grows with the budget, and no schedule that loads in order of
  use without pinning is faster;
- `warm`: the later runs' time never grows with the budget, but for `SAME`, where the host takes
  nothing of it;
- `memory`: no larger budget makes the first run slower; pins nothing beyond what is forced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isclose, log
from typing import TypeAlias

import numpy as np

from flashmem_lab.device.spec import NO_HOST
from flashmem_lab.plan.clock import Run, ns_at_least, own_clock, run_ns
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem
from flashmem_lab.plan.room import earliest_loads, least_budget, residency
from flashmem_lab.plan.told import later_loads, told

PIN_STEPS = 64
"""Sizes of W tried in each order of pinning; more make planning slower, not safer."""

LIGHT = 1 / 128
"""Share of all bytes, in the smallest weights, that is pinned before others: each object costs the
host its time in every run, however small it is."""

ALIKE = 0.002
"""Later runs whose times differ by less are alike: the plan that streams fewer objects is taken."""

BOUND_ROUNDS = 2
"""Of `ns_at_least`: what is left after two is a handful of candidates, most often none."""

SAME = 1e-9
"""Times this close, relative to their size, are the same: sums over some thousand terms."""


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """A planner's decisions: what is pinned, and the step of every other weight's object.

    Attributes:
        pinned: (n,) True for W.
        load_at: (n,) z_w; 0 for pinned weights.
        barrier: True if layer 0 waits for all of W.
        tier: fallback that was needed, or "".
    """

    pinned: Mask
    load_at: Ints
    barrier: bool = False
    tier: str = ""


Planner: TypeAlias = "Callable[[Problem, Freedom, int], Schedule]"


def plan_for(optimize: Objective) -> Planner:
    """The greedy planner of an objective."""
    planners: dict[Objective, Planner] = {
        Objective.MEMORY: least_memory,
        Objective.COLD: least_cold,
        Objective.WARM: least_warm,
    }
    return planners[optimize]


# --- memory --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class LatestLoads:
    """Reverse earliest-deadline schedule of all bytes (see `latest_loads`).

    Attributes:
        load_at: (n,) layer in which the first byte of each weight moves.
        ahead: (N,) bytes that must have moved by the end of each layer for later layers.
        softened: True if some load cannot be hidden within the load capacities.
    """

    load_at: Ints
    ahead: Floats
    softened: bool


def latest_loads(problem: Problem, moving: Mask) -> LatestLoads:
    """Moves every byte as late as load capacity allows: the least residency at every step at once.

    Load capacity C_l: while layer l runs, and for as long as its class lets loading stretch it,
    the slower lane moves C_l = duration x (1 + slack) x rate bytes (lanes of their own overlap
    all of a layer, so slack comes on top). Where the layers up to l cannot hide what they need,
    the missing bytes move in a stall right before l: capacity is softened there and only there.

    Args:
        problem: the model on a device.
        moving: (n,) weights that pass the lane; the others take none of its capacity.
    """
    before = np.concatenate(([0.0], np.cumsum(problem.capacity)))  # capacity of layers before l
    size = np.where(moving, problem.size, 0)
    moved = np.concatenate(([0.0], np.cumsum(size.astype(np.float64))))
    steps = np.arange(len(problem.layers))
    due = moved[np.searchsorted(problem.first, steps, side="right")]  # bytes due when l starts
    stalled = np.maximum.accumulate(np.maximum(0.0, due - before[:-1]))  # in stalls up to l
    # One axis of bytes the lane could have moved: step l covers [opens[l], opens[l + 1]).
    opens = before + np.concatenate(([0.0], stalled))
    deadline = before[problem.first] + stalled[problem.first]
    # A weight ends at its deadline or where the next one starts, whichever comes first.
    slackless = (deadline - moved[1:])[::-1]
    start = np.minimum.accumulate(slackless)[::-1] + moved[:-1]
    load_at = np.searchsorted(opens, start, side="right") - 1
    end = start + size
    axis = np.stack((start, end), axis=1).ravel()
    done = np.stack((moved[:-1], moved[1:]), axis=1).ravel()
    closed = np.interp(opens[1:], axis, done) if len(axis) else np.zeros(len(steps))
    return LatestLoads(
        load_at=np.clip(load_at, 0, problem.first),
        ahead=np.maximum(0.0, closed - due),
        softened=bool(stalled[-1] > 0),
    )


def least_memory(problem: Problem, free: Freedom, budget: int) -> Schedule:
    """Pins nothing unasked and loads as late as load capacity allows.

    Pinned weights count in the capacity: they pass the lane in the first run.
    """
    return latest_within(problem, free, free.forced, budget, np.ones_like(free.forced))


def latest_within(
    problem: Problem, free: Freedom, pinned: Mask, budget: int, moving: Mask
) -> Schedule:
    """As late as load capacity allows, and later still where the budget has no room (a stall)."""
    latest = latest_loads(problem, moving)
    wish = np.clip(latest.load_at, free.earliest, free.latest)
    load_at = np.where(pinned, 0, np.maximum(wish, earliest_loads(problem, free, pinned, budget)))
    softened = latest.softened or bool((load_at > latest.load_at)[~pinned].any())
    return Schedule(pinned, load_at, tier="soft-capacity" if softened else "")


# --- cold ----------------------------------------------------------------------------------


def least_cold(problem: Problem, free: Freedom, budget: int) -> Schedule:
    """In order of use, as early as there is room; then pins what costs the first run nothing."""
    plain = Schedule(free.forced, earliest_loads(problem, free, free.forced, budget))
    first_run = problem.in_run(cold=True)
    run = own_clock(first_run, plain.pinned, plain.load_at, cold=True, chunks=False)
    time_ns = run.total_ns + first_run.lost_ns(float(first_run.load.sum()))
    pinned = _free_pins(first_run, free, plain, run, budget)
    candidates = [Schedule(some, earliest_loads(problem, free, some, budget)) for some in pinned]
    candidates += [least_warm(problem, free, budget), plain]

    def later_runs(plan: Schedule) -> tuple[float, int, float]:
        time_ns = _Later.of(problem, free, plan).ns_at_least()
        return round(log(time_ns) / ALIKE), int((~plan.pinned).sum()), time_ns

    # Not even a faster one: a plan with a larger budget might not be able to follow.
    return next(
        plan
        for plan in sorted(candidates, key=later_runs)
        if plan is plain or _takes(problem, plan, time_ns)
    )


def _takes(problem: Problem, plan: Schedule, time_ns: float) -> bool:
    """Whether the first run takes that time, no more and no less."""
    limit_ns = time_ns * (1 + SAME)
    least_ns = ns_at_least(problem, plan.pinned, plan.load_at, cold=True, rounds=BOUND_ROUNDS)
    if least_ns > limit_ns:
        return False
    took = run_ns(problem, plan.pinned, plan.load_at, cold=True, limit_ns=limit_ns)
    return isclose(took, time_ns, rel_tol=SAME)


def _free_pins(
    problem: Problem, free: Freedom, plain: Schedule, run: Run, budget: int
) -> Iterator[Mask]:
    """Sets of weights that can be pinned with every layer of the first run where it was.

    An object made at step z could be made as late as the last step that begins before its read
    must. What then is free at every step outside a weight's life is room to pin it, unless its
    read waited for memory: that one would come earlier.
    """
    begun = np.searchsorted(run.end, _latest_begins(problem, run), side="right")
    latest = plain.load_at.copy()
    latest[run.order] = np.maximum(latest[run.order], np.minimum(begun, free.latest[run.order]))
    waited = set(problem.first[run.order[run.gate > run.free]].tolist())
    groups = [
        group for group in _groups(problem, free) if int(problem.first[group[0]]) not in waited
    ]
    sizes = {id(group): int(problem.size[group].sum()) for group in groups}
    by_size = sorted(groups, key=lambda group: -sizes[id(group)])
    light = set(_lightest(np.array([sizes[id(group)] for group in groups]), problem).tolist())
    first_light = [group for at, group in enumerate(groups) if at in light]
    orders = (groups, by_size, [*first_light, *by_size])
    spare = budget - residency(problem, plain.pinned, latest)
    for order in orders:
        room, pinned = spare, plain.pinned.copy()
        for group in order:
            if pinned[group].all():
                continue
            left = room.copy()
            for weight in group.tolist():
                left[: latest[weight]] -= problem.size[weight]
                left[problem.last[weight] + 1 :] -= problem.size[weight]
            if left.min() >= 0:
                room = left
                pinned[group] = True
        yield pinned


def _latest_begins(problem: Problem, run: Run) -> Floats:
    """When each read of a run must begin for every layer to start when it did, in the run's order.

    Reads follow one another; each ends, and is uploaded, before its layer starts.
    """
    order = run.order
    read_ns = problem.load[order] / problem.own_disk * 1e9
    done = np.cumsum(read_ns)
    due = run.start[problem.first[order]] - problem.tail[order] / problem.upload * 1e9
    slackless = np.minimum.accumulate((due - done)[::-1])[::-1]
    latest: Floats = np.maximum(run.begin, slackless + done - read_ns)
    return latest


def _lightest(sizes: Ints, problem: Problem) -> Ints:
    """Places of the smallest, up to LIGHT of the bytes of all weights."""
    ascending = np.argsort(sizes, kind="stable")
    many = np.searchsorted(np.cumsum(sizes[ascending]), LIGHT * problem.size.sum(), side="right")
    return ascending[:many]


def _groups(problem: Problem, free: Freedom) -> list[Ints]:
    """Weights that may be pinned, those first used by one layer together: they keep their order."""
    open_ = np.flatnonzero(~free.forced & ~free.never)
    return np.split(open_, np.flatnonzero(np.diff(problem.first[open_])) + 1) if len(open_) else []


# --- warm ----------------------------------------------------------------------------------


def least_warm(problem: Problem, free: Freedom, budget: int) -> Schedule:
    """Chooses W among nested families, and streams the rest as early as there is room.

    Each family pins what the first k layers of a fixed order use; what fits one budget fits a
    larger one, and a larger budget has more room to stream beside the same W. So the best member
    never gets slower with the budget. Members are tried best lower bound first, and of equal ones
    the largest, which reads least in each run, until none can win.
    """
    room = budget - problem.staging.bytes - int(problem.activation.max())
    candidates = []
    for at, pinned in enumerate(_families(problem, free)):
        size = int(problem.size[pinned].sum())
        if size <= room and least_budget(problem, free, pinned)[0] <= budget:
            plan = Schedule(pinned, earliest_loads(problem, free, pinned, budget))
            later = _Later.of(problem, free, plan)
            bound = later.ns_at_least(rounds=BOUND_ROUNDS)
            candidates.append((round(bound), -size, at, bound, later))
    candidates.sort(key=lambda candidate: candidate[:3])
    best, best_ns = None, np.inf
    for *_, bound, later in candidates:
        if bound >= best_ns * (1 - SAME):
            continue
        time = later.ns(limit_ns=best_ns)
        if time < best_ns:
            best, best_ns = later.plan, time
    assert best is not None, "W = forced fits every budget that is not too small"
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Later:
    """Later runs of a plan, with what the host takes of them (`told`).

    A W that leaves activations no room at once costs the host its time with each of them, which is
    more than the bytes that a somewhat smaller one reads besides.

    Attributes:
        plan: the plan.
        problem: of its later runs.
        load_at: (n,) when its objects can be made in them.
    """

    plan: Schedule
    problem: Problem
    load_at: Ints

    @classmethod
    def of(cls, problem: Problem, free: Freedom, plan: Schedule) -> _Later:
        if problem.host == NO_HOST:
            return cls(plan, problem, plan.load_at)
        load_at = later_loads(problem, free, plan.pinned, plan.load_at)
        return cls(plan, told(problem, plan.pinned, plan.load_at, cold=False), load_at)

    def ns(self, limit_ns: float) -> float:
        """See `run_ns`."""
        pinned = self.plan.pinned
        return run_ns(self.problem, pinned, self.load_at, cold=False, limit_ns=limit_ns)

    def ns_at_least(self, rounds: int | None = None) -> float:
        """See `clock.ns_at_least`."""
        return ns_at_least(self.problem, self.plan.pinned, self.load_at, cold=False, rounds=rounds)


def _families(problem: Problem, free: Freedom) -> Iterator[Mask]:
    """W of growing size: by use (stalls at the start cost most), by size, and evenly spread.

    By size both ways: the largest leave fewer bytes to move, the smallest fewer objects.

    All that hold anything hold the lightest weights.
    """
    yield free.forced
    groups = _groups(problem, free)
    count = len(groups)
    sizes = np.array([problem.size[group].sum() for group in groups], dtype=np.int64)
    open_ = np.flatnonzero(~free.forced & ~free.never)
    light = free.forced.copy()
    light[open_[_lightest(problem.size[open_], problem)]] = True
    golden = (np.arange(count) * 0.6180339887498949) % 1  # low discrepancy: even at every k
    by_size = np.argsort(sizes, kind="stable")
    orders = (np.arange(count), np.argsort(-sizes, kind="stable"), by_size, np.argsort(golden))
    stride = -(-count // PIN_STEPS) or 1
    for order in orders:
        members = [groups[at] for at in order.tolist()]
        weights = np.concatenate([np.zeros(0, dtype=np.int64), *members])
        ends = np.cumsum([0, *map(len, members)]).tolist()
        for pins in [*range(0, count, stride), count]:
            pinned = light.copy()
            pinned[weights[: ends[pins]]] = True
            yield pinned
