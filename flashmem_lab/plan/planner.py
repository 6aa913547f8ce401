"""From a lowered model, a device and a budget to a Plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.errors import BudgetTooSmall
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import baselines, greedy
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.clock import Run, run_clock
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.plan import (
    Move,
    Objective,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.plan.problem import Floats, Ints, Mask, Problem, build_problem
from flashmem_lab.plan.room import least_budget, preload_peak, residency
from flashmem_lab.units import Budget

MEMORY_LAMBDA = 0.9
"""Weight of pinned bytes against prefetched ones in the memory objective (PAPER: memory-first)."""


def make_plan(
    model: LoweredModel,
    device: DeviceSpec,
    *,
    budget: Budget,
    strategy: Strategy = Strategy.GREEDY,
    optimize: Objective = Objective.COLD,
    preload: Sequence[str] = (),
    transport: Transport | None = None,
) -> Plan:
    """Plans which weight of `model` is where and when on `device`.

    Args:
        model: what is to run.
        device: where.
        budget: cap on everything held at once; a share runs from the least feasible budget (with
            `preload` resident) to full preload.
        strategy: who decides.
        optimize: what the greedy strategy makes least; the other strategies are only measured
            by it.
        preload: weights that must be pinned.
        transport: how bytes move; the device's preference by default.

    Raises:
        BudgetTooSmall: the budget cannot hold the least plan, or for `preload` every weight.
        UsageError: `preload` names an unknown weight, or the transport is not available.
    """
    began = perf_counter()
    transport = transport or device.transport
    problem = build_problem(model, device, transport)
    forced = problem.mask(preload)
    least, tightest = least_budget(problem, forced)
    full = preload_peak(problem)
    cap = budget.resolve(least, full)
    needed, layer = least, problem.layers[tightest]
    if strategy is Strategy.PRELOAD:
        needed, layer = full, problem.layers[int(problem.activation.argmax())]
    if cap < needed:
        error = BudgetTooSmall(budget=cap, needed=needed, layer=layer)
        if strategy is Strategy.PRELOAD:
            error.hint = f"--budget 100% (full preload), --budget {needed}, or --strategy greedy"
        raise error
    schedule = _decide(problem, strategy, optimize, forced, cap)
    cold = run_clock(
        problem, schedule.pinned, schedule.load_at, cold=True, barrier=schedule.barrier
    )
    warm = run_clock(problem, schedule.pinned, schedule.load_at, cold=False)
    prediction = _predict(problem, schedule, cold, warm)
    score = _score(problem, schedule, optimize, prediction, forced, cap)
    solve_ms = (perf_counter() - began) * 1e3
    return Plan(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device=device.id,
        strategy=strategy,
        optimize=optimize,
        budget_bytes=cap,
        min_budget_bytes=least,
        preload_peak_bytes=full,
        transport=transport,
        staging_bytes=problem.staging.bytes,
        chunk_bytes=CHUNK_BYTES,
        preloaded=tuple(problem.weights[at] for at in np.flatnonzero(schedule.pinned)),
        barrier=schedule.barrier,
        streamed=_streamed(problem, schedule, cold),
        status=_status(strategy, score),
        tier=schedule.tier,
        objective=score.objective,
        bound=score.bound,
        gap=score.gap,
        solve_ms=solve_ms,
        first_plan_ms=solve_ms,
        predicted=prediction,
    )


def bounds(
    model: LoweredModel,
    device: DeviceSpec,
    transport: Transport | None = None,
    *,
    preload: Sequence[str] = (),
) -> tuple[int, int, str]:
    """(least feasible budget, peak of full preload, name of the layer that sets the least one).

    Raises:
        UsageError: as `make_plan`.
    """
    problem = build_problem(model, device, transport or device.transport)
    least, layer = least_budget(problem, problem.mask(preload))
    return least, preload_peak(problem), problem.layers[layer]


def _decide(
    problem: Problem, strategy: Strategy, optimize: Objective, forced: Mask, cap: int
) -> Schedule:
    if strategy is Strategy.PRELOAD:
        return baselines.preload_all(problem)
    if strategy is Strategy.ALWAYS_NEXT:
        return baselines.always_next(problem, forced, cap)
    if strategy is Strategy.SAME_OP:
        return baselines.same_op(problem, forced, cap)
    planner = {
        Objective.MEMORY: greedy.least_memory,
        Objective.COLD: greedy.least_cold,
        Objective.WARM: greedy.least_warm,
    }
    return planner[optimize](problem, forced, cap)


def _predict(problem: Problem, schedule: Schedule, cold: Run, warm: Run) -> Prediction:
    """Step l lasts from the end of layer l-1 to its own; what it holds does not change in it."""
    held = residency(problem, schedule.pinned, schedule.load_at)
    lasts: Floats = np.diff(cold.end, prepend=0.0)
    return Prediction(
        peak_bytes=int(held.max()),
        average_bytes=round(float((held * lasts).sum() / cold.total_ns)),
        cold_ms=cold.total_ns / 1e6,
        warm_ms=warm.total_ns / 1e6,
    )


# --- moves ---------------------------------------------------------------------------------


def _streamed(problem: Problem, schedule: Schedule, cold: Run) -> tuple[StreamedWeight, ...]:
    """Each chunk moves in the step in which the predicted first run has it arrive."""
    counts = problem.chunks[cold.order]
    owner = np.repeat(cold.order, counts)
    step = np.searchsorted(cold.end, cold.upload[:, 1], side="left")
    step = np.clip(step, schedule.load_at[owner], problem.first[owner])
    moves: dict[int, list[Move]] = {}
    steps = len(problem.layers)
    keys, chunks = np.unique(owner * steps + step, return_counts=True)
    for key, count in zip(keys.tolist(), chunks.tolist(), strict=True):
        moves.setdefault(key // steps, []).append(Move(key % steps, count))
    return tuple(
        StreamedWeight(
            weight=problem.weights[at],
            load_at=int(schedule.load_at[at]),
            first_use=int(problem.first[at]),
            last_use=int(problem.last[at]),
            moves=tuple(moves[at]),
        )
        for at in np.flatnonzero(~schedule.pinned).tolist()
    )


# --- quality -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Score:
    """The objective's value and a bound that no plan beats: bytes for memory, ms for the others."""

    objective: float
    bound: float

    @property
    def gap(self) -> float:
        """Share of the objective that might still be saved; 0 is proof of the best."""
        spare = self.objective - self.bound
        return max(0.0, spare / self.objective) if self.objective > 0 else 0.0


def _score(
    problem: Problem,
    schedule: Schedule,
    optimize: Objective,
    prediction: Prediction,
    forced: Mask,
    cap: int,
) -> _Score:
    if optimize is Objective.COLD:
        return _Score(prediction.cold_ms, greedy.cold_bound(problem) / 1e6)
    if optimize is Objective.WARM:
        return _Score(prediction.warm_ms, greedy.warm_bound(problem, cap) / 1e6)
    # PAPER's lambda |W| + (1 - lambda) sum (i_w - z_w), in bytes held a step: a pinned weight
    # counts at every step, a streamed one at the steps between its load and its use.
    steps = len(problem.layers)
    distance: Ints = np.where(schedule.pinned, 0, problem.first - schedule.load_at)
    pinned = float(problem.size[schedule.pinned].sum())
    ahead = float((distance * problem.size).sum() / steps)
    return _Score(
        MEMORY_LAMBDA * pinned + (1 - MEMORY_LAMBDA) * ahead,
        MEMORY_LAMBDA * float(problem.size[forced].sum())
        + (1 - MEMORY_LAMBDA) * _least_ahead(problem, schedule),
    )


def _least_ahead(problem: Problem, schedule: Schedule) -> float:
    """Prefetched bytes a step that a plan needs to keep to the load capacities.

    That is what lies ready at each step in the latest possible schedule, whose capacities are
    softened where no schedule could keep to them, less what pinned weights hold of it. A plan
    that loads later softens them further, and by that rule no prefetch is needed at all.
    """
    latest = greedy.latest_loads(problem)
    streamed = ~schedule.pinned
    if (schedule.load_at > latest.load_at)[streamed].any():
        return 0.0
    steps = np.arange(len(problem.layers))
    pinned = np.cumsum(np.where(streamed, 0, problem.size))
    due = np.concatenate(([0], pinned))[np.searchsorted(problem.first, steps, side="right")]
    to_come = due.max(initial=0) - due
    return float(np.maximum(0.0, latest.ahead - to_come).mean())


def _status(strategy: Strategy, score: _Score) -> Status:
    if score.gap <= 1e-9:  # of the objective: rounding of sums over some thousand terms
        return Status.OPTIMAL
    return Status.GREEDY if strategy is Strategy.GREEDY else Status.FEASIBLE
