"""Why a budget is too small, and what would have to give way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashmem_lab.errors import BudgetTooSmall
from flashmem_lab.plan.constraints import Constraints
from flashmem_lab.plan.freedom import freedom
from flashmem_lab.plan.problem import Problem
from flashmem_lab.plan.room import least_budget

_MOST = 3  # relaxations and weights that are told


def too_small(problem: Problem, constraints: Constraints, budget: int) -> BudgetTooSmall:
    """The error that says what sets the least budget, and which demands to drop, cheapest first.

    Args:
        problem: the model on a device.
        constraints: under which it does not fit.
        budget: bytes asked for, less than the least ones.
    """
    free = freedom(problem, constraints)
    least, layer = least_budget(problem, free, free.forced)
    there = free.forced | ((free.latest <= layer) & (layer <= problem.last))
    heavy = sorted(np.flatnonzero(there).tolist(), key=lambda at: -int(problem.size[at]))
    return BudgetTooSmall(
        budget=budget,
        needed=least,
        layer=problem.layers[layer],
        weights=[(problem.weights[at], int(problem.size[at])) for at in heavy[:_MOST]],
        fixed=problem.staging.bytes + int(problem.activation[layer]),
        relaxations=_relaxations(problem, constraints, budget, least),
    )


def _relaxations(
    problem: Problem, constraints: Constraints, budget: int, least: int
) -> list[tuple[str, int]]:
    """(what to drop, least budget then), those that suffice first."""
    found = []
    for name in constraints.preload:
        kept = tuple(other for other in constraints.preload if other != name)
        found.append((f"--preload {name}", replace(constraints, preload=kept)))
    for window in constraints.windows:
        left = tuple(other for other in constraints.windows if other != window)
        text = f"--window {window.weight}={window.first}:{window.last}"
        found.append((text, replace(constraints, windows=left)))
    if len(found) > 1:
        found.append(("all --preload and --window", Constraints(stream=constraints.stream)))
    needs = []
    for text, relaxed in found:
        free = freedom(problem, relaxed)
        needed = least_budget(problem, free, free.forced)[0]
        if needed < least:
            needs.append((text, needed))
    # One that suffices, and of those the one that frees least; else the one that frees most.
    needs.sort(key=lambda need: (need[1] > budget, -need[1] if need[1] <= budget else need[1]))
    return needs[:_MOST]
