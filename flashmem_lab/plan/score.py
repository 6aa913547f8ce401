"""What schedules cost on each objective, and bounds that no schedule beats.

`memory` is the paper's lambda |W| + (1 - lambda) sum (i_w - z_w), with its hard load capacity as a
price, so that plans of every strategy can be compared. In bytes: a pinned byte costs lambda; a
byte that waits on the device for its use costs 1 - lambda times the share of the run's steps that
it waits; a byte that no layer hides costs 1, as much as the dearest of the others. Greedy
exceeds a layer's capacity only where W and the budget leave nothing else; lc-opg also where a few
late bytes save a large object from waiting for long, and says so (`over_capacity`).
`cold` and `warm` are times, ns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashmem_lab.errors import UsageError
from flashmem_lab.plan.clock import run_ns
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.plan import Objective
from flashmem_lab.plan.problem import Floats, Ints, Problem
from flashmem_lab.plan.room import room_for_bytes


@dataclass(frozen=True, slots=True)
class Prices:
    """The paper's lambda and mu, both from 0 to 1.

    Attributes:
        lambda_: of pinned bytes, against 1 - lambda for prefetched ones (memory-first: 0.9).
        mu: of bytes prefetched earlier, where fused layers are ranked for splitting.
    """

    lambda_: float = 0.9
    mu: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.lambda_ <= 1 and 0 <= self.mu <= 1):
            raise UsageError(
                f"lambda {self.lambda_} and mu {self.mu} are not both from 0 to 1",
                hint="--lambda 0.9 --mu 0.1 are the usual ones",
            )


PAPERS_PRICES = Prices()
"""Memory first."""


@dataclass(frozen=True, slots=True)
class Score:
    """The objective's value and a bound that no plan beats: bytes for memory, ms for the others."""

    objective: float
    bound: float

    @property
    def gap(self) -> float:
        """Share of the objective that might still be saved; 0 is proof of the best."""
        spare = self.objective - self.bound
        return max(0.0, spare / self.objective) if self.objective > 0 else 0.0


def cost(problem: Problem, schedule: Schedule, optimize: Objective, price: float) -> float:
    """What `optimize` makes least: bytes as above, or ns.

    Args:
        problem: the model on a device.
        schedule: of that problem.
        optimize: the objective.
        price: lambda.
    """
    if optimize is Objective.MEMORY:
        return memory_cost(problem, schedule, price)
    cold = optimize is Objective.COLD
    return run_ns(
        problem,
        schedule.pinned,
        schedule.load_at,
        cold=cold,
        barrier=schedule.barrier and cold,
    )


def memory_cost(problem: Problem, schedule: Schedule, price: float) -> float:
    """The memory objective of a schedule, bytes."""
    streamed = np.flatnonzero(~schedule.pinned)
    size, first = problem.size[streamed], problem.first[streamed]
    waited = (first - schedule.load_at[streamed]) / len(problem.layers)
    kept = float(problem.size[schedule.pinned].sum())
    return (
        price * kept
        + (1 - price) * float((waited * size).sum())
        + float(unhidden(problem, schedule).sum())
    )


def unhidden(problem: Problem, schedule: Schedule) -> Floats:
    """(n,) bytes of each weight that no layer hides: they move in a stall before its first use.

    The lane moves streamed weights in order of use, each from its `load_at` on, C_l bytes while
    layer l runs.
    """
    before = np.concatenate(([0.0], np.cumsum(problem.capacity)))
    streamed = np.flatnonzero(~schedule.pinned)
    excess = np.zeros(len(problem.weights))
    begins = before[schedule.load_at[streamed]].tolist()
    deadlines = before[problem.first[streamed]].tolist()
    moved, late = 0.0, []
    for begin, deadline, size in zip(
        begins, deadlines, problem.size[streamed].tolist(), strict=True
    ):
        end = max(moved, begin) + size
        late.append(max(0.0, end - deadline))
        moved = min(end, deadline)
    excess[streamed] = late
    return excess


# --- bounds --------------------------------------------------------------------------------


def quick_bound(
    problem: Problem, free: Freedom, optimize: Objective, budget: int, price: float
) -> float:
    """No plan costs less; found in a few milliseconds."""
    if optimize is Objective.COLD:
        return cold_bound(problem, free, budget)
    if optimize is Objective.WARM:
        return warm_bound(problem, budget)
    return memory_bound(problem, free, price)


def cold_bound(problem: Problem, free: Freedom, budget: int) -> float:
    """No plan's first run is shorter, ns.

    The disk reads in order of use; pins only take room from others. So a weight can begin no
    earlier than it has room beside all that earlier layers use, in whatever order it and those of
    its layer are read: as jobs with release dates on one machine, which is done the soonest in the
    order of the dates, smallest weight first. And one of them is read, from its begin to its end,
    after the step from which all of them have room. All the rest is left out.
    """
    problem = problem.in_run(cold=True)
    size, first = problem.size, problem.first
    elapsed = np.concatenate(([0.0], np.cumsum(problem.duration_ns)))
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    if not len(starts):
        return float(elapsed[-1])
    allowed = room_for_bytes(problem, free.forced, budget)
    movable = np.where(free.forced, 0, size)
    through = np.cumsum(movable)
    ends = np.append(starts[1:], len(first))
    until = np.repeat(through[starts] - movable[starts], ends - starts)
    smallest_first = np.lexsort((movable, first))
    gates = _first_steps(allowed, until + movable[smallest_first], first)
    together = _first_steps(allowed, through[ends - 1], first[starts]).tolist()
    uses = first[starts]
    # How many layers that load have begun before each step.
    known = np.searchsorted(uses, np.arange(len(elapsed)) - 1, side="right").tolist()
    reads = (problem.load / problem.own_disk * 1e9)[smallest_first].tolist()
    shortest = np.minimum.reduceat(problem.load, starts) / problem.own_disk * 1e9
    upload = np.minimum.reduceat(problem.tail, starts) / problem.upload * 1e9
    # A layer is delayed by delays[i] once the weights of the first i layers that load are there.
    delays, disk, steps = [0.0], 0.0, elapsed.tolist()

    def opens(step: int) -> float:
        return float(delays[known[step]] + steps[step]) if step else 0.0

    for at, (use, begin, end) in enumerate(
        zip(uses.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ):
        for gate, read in zip(gates[begin:end].tolist(), reads[begin:end], strict=True):
            disk = max(disk, opens(gate)) + read
        disk = max(disk, opens(together[at]) + shortest[at])
        delays.append(max(delays[-1], disk + upload[at] - steps[use]))
    return float(elapsed[-1] + delays[-1]) + problem.lost_ns(float(problem.load.sum()))


def _first_steps(allowed: Ints, wanted: Ints, latest: Ints) -> Ints:
    """First step at which so many bytes, counted in order of use, may be there."""
    steps: Ints = np.minimum(np.searchsorted(allowed, wanted, side="left"), latest)
    return steps


def warm_bound(problem: Problem, budget: int) -> float:
    """No plan's later runs are shorter, ns: what cannot be pinned is read in every run."""
    room = budget - problem.staging.bytes - int(problem.activation.max())
    streamed = max(0, int(problem.size.sum()) - room)
    read_ns = streamed / problem.own_disk * 1e9
    return max(problem.compute_ns, read_ns) + problem.lost_ns(streamed)


def memory_bound(problem: Problem, free: Freedom, price: float) -> float:
    """No plan's memory objective is less, bytes.

    Say x bytes beyond the forced ones are pinned or unhidden, at lambda each at least. Then at
    the end of each layer at least `ahead` - x bytes lie ready, and x is at least what the layers
    before some use cannot hide. Both ends of this are convex in x.
    """
    needed, ahead = hidden_ahead(problem, free.forced)
    steps = len(problem.layers)
    candidates: Ints = np.maximum(np.unique(np.append(ahead, 0.0)), needed)
    ordered = np.sort(ahead)[::-1]
    total = np.concatenate(([0.0], np.cumsum(ordered)))
    above = np.searchsorted(-ordered, -candidates, side="left")
    waiting = total[above] - above * candidates
    best = (price * candidates + (1 - price) * waiting / steps).min()
    return price * float(problem.size[free.forced].sum()) + float(best)


def hidden_ahead(problem: Problem, pinned: np.ndarray) -> tuple[float, Floats]:
    """(bytes, (N,) bytes): what no layers can hide, and what must lie ready after each layer."""
    before = np.concatenate(([0.0], np.cumsum(problem.capacity)))
    moved = np.concatenate(([0.0], np.cumsum(np.where(pinned, 0.0, problem.size))))
    steps = np.arange(len(problem.layers))
    due = moved[np.searchsorted(problem.first, steps, side="right")]  # bytes due when l starts
    lacking = np.maximum.accumulate((due - before[:-1])[::-1])[::-1]
    later = np.append(lacking[1:], -np.inf)
    ahead = np.maximum(0.0, later - (due - before[1:]))
    return max(0.0, float(lacking[0])), ahead
