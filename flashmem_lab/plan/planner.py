"""From a lowered model, a device and a budget to a Plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter

import numpy as np

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.errors import BudgetTooSmall, UsageError
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import baselines, greedy
from flashmem_lab.plan.chunks import CHUNK_BYTES
from flashmem_lab.plan.clock import Run, run_clock, run_ns
from flashmem_lab.plan.constraints import NO_CONSTRAINTS, Constraints
from flashmem_lab.plan.freedom import Freedom, freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.incumbent import Effort
from flashmem_lab.plan.infeasible import too_small
from flashmem_lab.plan.inline import Step, run_inline
from flashmem_lab.plan.plan import (
    Move,
    Objective,
    OverCapacity,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.plan.problem import Floats, Mask, Problem, build_problem
from flashmem_lab.plan.room import least_budget, preload_peak, residency
from flashmem_lab.plan.score import PAPERS_PRICES, Prices, Score, cost, quick_bound, unhidden
from flashmem_lab.plan.search import search
from flashmem_lab.plan.told import told
from flashmem_lab.units import Budget


def make_plan(
    model: LoweredModel,
    device: DeviceSpec,
    *,
    budget: Budget,
    strategy: Strategy = Strategy.GREEDY,
    optimize: Objective = Objective.COLD,
    constraints: Constraints = NO_CONSTRAINTS,
    transport: Transport | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    prices: Prices = PAPERS_PRICES,
    effort: Effort | None = None,
) -> Plan:
    """Plans which weight of `model` is where and when on `device`.

    Args:
        model: what is to run.
        device: where.
        budget: cap on everything held at once; a share runs from the least feasible budget (under
            the constraints) to full preload.
        strategy: who decides.
        optimize: what greedy and lc-opg make least; the other strategies are only measured by it.
        constraints: weights to pin, to stream, or to load at certain layers.
        transport: how bytes move; the device's preference by default.
        chunk_bytes: how much of a weight moves at once, about: whole rows of texels.
        prices: of the memory objective and of undoing fusions.
        effort: how hard lc-opg tries.

    Raises:
        BudgetTooSmall: the budget cannot hold the least plan, or for `preload` every weight.
        UsageError: a constraint names an unknown weight or contradicts another or the strategy,
            or the transport is not available.
    """
    transport = transport or device.transport
    problem = build_problem(model, device, transport, chunk_bytes=chunk_bytes)
    return plan_problem(
        problem,
        Request(
            model=model.name,
            fingerprint=model.fingerprint,
            precision=model.precision.value,
            device=device.id,
            transport=transport,
            budget=budget,
            strategy=strategy,
            optimize=optimize,
            constraints=constraints,
            chunk_bytes=chunk_bytes,
            prices=prices,
            undone_fusions=model.unfused,
        ),
        effort=effort,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is asked for: identity, and the arguments of `make_plan`."""

    model: str
    fingerprint: str
    precision: str
    device: str
    transport: Transport
    budget: Budget
    strategy: Strategy = Strategy.GREEDY
    optimize: Objective = Objective.COLD
    constraints: Constraints = NO_CONSTRAINTS
    chunk_bytes: int = CHUNK_BYTES
    prices: Prices = PAPERS_PRICES
    undone_fusions: tuple[str, ...] = ()


def plan_problem(
    problem: Problem, request: Request, *, effort: Effort | None = None, hint: Mask | None = None
) -> Plan:
    """A plan for a problem that is built already.

    Args:
        problem: the model on a device.
        request: what is wanted.
        effort: how hard lc-opg tries.
        hint: (n,) a W for lc-opg to try first.

    Raises:
        BudgetTooSmall, UsageError: as `make_plan`.
    """
    began = perf_counter()
    strategy, optimize = request.strategy, request.optimize
    price = request.prices.lambda_
    free = freedom(problem, request.constraints)
    least, _ = least_budget(problem, free, free.forced)
    full = preload_peak(problem)
    cap = request.budget.resolve(least, full)
    _refuse_misfits(problem, request, free, cap)
    first_ms = None
    if strategy is Strategy.LC_OPG:
        found = search(problem, free, cap, optimize, price=price, effort=effort, hint=hint)
        schedule, first_ms = found.schedule, found.first_ms
        bound = found.bound
    else:
        schedule = _decide(problem, strategy, optimize, free, cap)
        bound = quick_bound(problem, free, optimize, cap, price)
    cold = run_clock(
        problem, schedule.pinned, schedule.load_at, cold=True, barrier=schedule.barrier
    )
    # Of later runs only the time is told, which is found without the times of all chunks.
    later = told(problem, schedule.pinned, schedule.load_at, cold=False)
    warm_ns = run_ns(later, schedule.pinned, schedule.load_at, cold=False)
    moves = _arrivals(problem, schedule, cold)
    if request.transport is Transport.INLINE:
        # Schedules are chosen on the clock of `copy`; what kernels carry is decided for the best.
        carried = run_inline(
            problem,
            schedule.pinned,
            schedule.load_at,
            cold=True,
            barrier=schedule.barrier,
            heedless=strategy in (Strategy.ALWAYS_NEXT, Strategy.SAME_OP),
        )
        again = run_inline(
            problem, schedule.pinned, schedule.load_at, cold=False, steps=carried.steps
        )
        cold, warm_ns = carried.run, again.run.total_ns
        moves = [_moves(steps) for steps in carried.steps]
    prediction = _predict(problem, schedule, cold, warm_ns)
    objective = cost(problem, schedule, optimize, price)
    unit = 1.0 if optimize is Objective.MEMORY else 1e6  # bytes, or ns told in ms
    score = Score(objective / unit, bound / unit)
    solve_ms = (perf_counter() - began) * 1e3
    return Plan(
        model=request.model,
        fingerprint=request.fingerprint,
        precision=request.precision,
        device=request.device,
        strategy=strategy,
        optimize=optimize,
        budget_bytes=cap,
        min_budget_bytes=least,
        preload_peak_bytes=full,
        transport=request.transport,
        staging_bytes=problem.staging.bytes,
        chunk_bytes=request.chunk_bytes,
        preloaded=tuple(problem.weights[at] for at in np.flatnonzero(schedule.pinned)),
        barrier=schedule.barrier,
        streamed=_streamed(problem, schedule, moves),
        status=_status(strategy, score),
        tier=schedule.tier,
        objective=score.objective,
        bound=score.bound,
        gap=score.gap,
        solve_ms=solve_ms,
        first_plan_ms=solve_ms if first_ms is None else first_ms,
        predicted=prediction,
        constraints=request.constraints,
        over_capacity=_over_capacity(problem, schedule),
        lambda_=price,
        mu=request.prices.mu,
        undone_fusions=request.undone_fusions,
        preload_moves=tuple(moves[at] for at in np.flatnonzero(schedule.pinned))
        if request.transport is Transport.INLINE
        else (),
    )


def bounds(
    model: LoweredModel,
    device: DeviceSpec,
    transport: Transport | None = None,
    *,
    constraints: Constraints = NO_CONSTRAINTS,
) -> tuple[int, int, str]:
    """(least feasible budget, peak of full preload, name of the layer that sets the least one).

    Raises:
        UsageError: as `make_plan`.
    """
    problem = build_problem(model, device, transport or device.transport)
    free = freedom(problem, constraints)
    least, layer = least_budget(problem, free, free.forced)
    return least, preload_peak(problem), problem.layers[layer]


def _refuse_misfits(problem: Problem, request: Request, free: Freedom, cap: int) -> None:
    if request.strategy is not Strategy.PRELOAD:
        if cap < least_budget(problem, free, free.forced)[0]:
            raise too_small(problem, request.constraints, cap)
        return
    if free.never.any():
        raise UsageError(
            f"{problem.weights[int(free.never.argmax())]!r} is to be streamed, and preload pins it",
            hint="drop --stream and --window, or choose another strategy",
        )
    full = preload_peak(problem)
    if cap < full:
        error = BudgetTooSmall(
            budget=cap, needed=full, layer=problem.layers[int(problem.activation.argmax())]
        )
        error.hint = f"--budget 100% (full preload), --budget {full}, or --strategy greedy"
        raise error


def _decide(
    problem: Problem, strategy: Strategy, optimize: Objective, free: Freedom, cap: int
) -> Schedule:
    if strategy is Strategy.PRELOAD:
        return baselines.preload_all(problem)
    if strategy is Strategy.ALWAYS_NEXT:
        return baselines.always_next(problem, free, cap)
    if strategy is Strategy.SAME_OP:
        return baselines.same_op(problem, free, cap)
    return greedy.plan_for(optimize)(problem, free, cap)


def _over_capacity(problem: Problem, schedule: Schedule) -> tuple[OverCapacity, ...]:
    """Per layer; whole bytes, since layers hide fractions of them."""
    late = np.zeros(len(problem.layers))
    np.add.at(late, problem.first, unhidden(problem, schedule))
    layers = np.flatnonzero(late >= 1).tolist()
    return tuple(
        OverCapacity(layer, round(late[layer]), float(late[layer]) / problem.rate * 1e3)
        for layer in layers
    )


def _predict(problem: Problem, schedule: Schedule, cold: Run, warm_ns: float) -> Prediction:
    """Step l lasts from the end of layer l-1 to its own; what it holds does not change in it."""
    held = residency(problem, schedule.pinned, schedule.load_at)
    lasts: Floats = np.diff(cold.end, prepend=0.0)
    return Prediction(
        peak_bytes=int(held.max()),
        average_bytes=round(float((held * lasts).sum() / cold.total_ns)),
        cold_ms=cold.total_ns / 1e6,
        warm_ms=warm_ns / 1e6,
    )


# --- moves ---------------------------------------------------------------------------------


def _arrivals(problem: Problem, schedule: Schedule, cold: Run) -> list[tuple[Move, ...]]:
    """For each weight: its chunks move in the step in which the predicted first run has them."""
    counts = problem.chunks[cold.order]
    owner = np.repeat(cold.order, counts)
    step = np.searchsorted(cold.end, cold.upload[:, 1], side="left")
    step = np.clip(step, schedule.load_at[owner], problem.first[owner])
    moves: list[list[Move]] = [[] for _ in problem.weights]
    steps = len(problem.layers)
    keys, chunks = np.unique(owner * steps + step, return_counts=True)
    for key, count in zip(keys.tolist(), chunks.tolist(), strict=True):
        moves[key // steps].append(Move(key % steps, count))
    return [tuple(some) for some in moves]


def _streamed(
    problem: Problem, schedule: Schedule, moves: Sequence[tuple[Move, ...]]
) -> tuple[StreamedWeight, ...]:
    return tuple(
        StreamedWeight(
            weight=problem.weights[at],
            load_at=int(schedule.load_at[at]),
            first_use=int(problem.first[at]),
            last_use=int(problem.last[at]),
            moves=moves[at],
        )
        for at in np.flatnonzero(~schedule.pinned).tolist()
    )


def _moves(steps: Sequence[Step]) -> tuple[Move, ...]:
    """How a weight's chunks move, those of one layer together."""
    by_layer = [list(some) for _, some in groupby(steps, key=lambda step: step.layer)]
    return tuple(
        Move(some[0].layer, len(some), sum(step.apart for step in some)) for some in by_layer
    )


def _status(strategy: Strategy, score: Score) -> Status:
    if score.gap <= 1e-9:  # of the objective: rounding of sums over some thousand terms
        return Status.OPTIMAL
    return Status.GREEDY if strategy is Strategy.GREEDY else Status.FEASIBLE
