"""Every schedule of a small problem, to compare planners with."""

from __future__ import annotations

from itertools import product

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.problem import Problem
from flashmem_lab.plan.room import residency


def all_schedules(problem: Problem, free: Freedom, budget: int) -> list[Schedule]:
    """Every W and every step of every load that the budget and the constraints allow."""
    options = []
    for at, first in enumerate(problem.first.tolist()):
        lives = [] if free.never[at] else [-1]
        if not free.forced[at]:
            lives += range(int(free.earliest[at]), min(first, int(free.latest[at])) + 1)
        options.append(lives)
    found = []
    for chosen in product(*options):
        lives = np.array(chosen, dtype=np.int64).reshape(-1)
        pinned, load_at = lives < 0, np.maximum(lives, 0)
        if residency(problem, pinned, load_at).max() <= budget:
            found.append(Schedule(pinned, load_at))
    return found
