"""The paper's naive ways to overlap, and its full preload, to compare with.

Both naive ways honour the budget: a weight that has no room when its turn comes is loaded at its
use, which stalls.
"""

from __future__ import annotations

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.greedy import Schedule
from flashmem_lab.plan.problem import Ints, Problem
from flashmem_lab.plan.room import residency


def preload_all(problem: Problem) -> Schedule:
    """Every weight on the device before the first layer starts."""
    count = len(problem.weights)
    everything = np.ones(count, dtype=bool)
    return Schedule(everything, np.zeros(count, dtype=np.int64), barrier=True)


def always_next(problem: Problem, free: Freedom, budget: int) -> Schedule:
    """While a layer runs, the weights of the next one load."""
    return _prefetch_once(problem, free, budget, problem.first - 1)


def same_op(problem: Problem, free: Freedom, budget: int) -> Schedule:
    """Loads begin only while layers of one operator class run: the nearest one before the use.

    The class is the one whose layers can hide most: time, stretched by the class's slack.
    """
    window = problem.duration_ns * (1 + problem.slack)
    classes = np.array(problem.classes)
    chosen = max(sorted(set(problem.classes)), key=lambda name: window[classes == name].sum())
    hosts = np.flatnonzero(classes == chosen)
    nearest = np.searchsorted(hosts, problem.first) - 1
    at = np.where(nearest >= 0, hosts[np.maximum(nearest, 0)], problem.first)
    return _prefetch_once(problem, free, budget, at)


def _prefetch_once(problem: Problem, free: Freedom, budget: int, wish: Ints) -> Schedule:
    """Each weight at its wished step if it fits from there to its use, else at the latest."""
    pinned = free.forced
    load_at = np.where(pinned, 0, free.latest)
    room = budget - residency(problem, pinned, free.latest)
    misfits = False
    for weight in np.flatnonzero(~pinned).tolist():
        begin = max(int(wish[weight]), int(free.earliest[weight]))
        latest, size = int(free.latest[weight]), problem.size[weight]
        if not 0 <= wish[weight] < latest or begin >= latest:
            continue
        if room[begin:latest].min() >= size:
            room[begin:latest] -= size
            load_at[weight] = begin
        else:
            misfits = True
    return Schedule(pinned, load_at, tier="stall-loads" if misfits else "")
