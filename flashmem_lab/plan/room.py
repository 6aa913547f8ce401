"""What is held at each step, the least budget, and how early a budget lets weights be loaded."""

from __future__ import annotations

import numpy as np

from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.problem import Ints, Mask, Problem, held_between


def residency(problem: Problem, pinned: Mask, load_at: Ints) -> Ints:
    """(N,) bytes held at each step: staging, activations, pinned and streamed weights.

    Args:
        problem: the model on a device.
        pinned: (n,) weights resident from step 0 on.
        load_at: (n,) first step of each streamed weight; ignored for pinned ones.
    """
    streamed = held_between(
        load_at[~pinned],
        problem.last[~pinned] + 1,
        problem.size[~pinned],
        len(problem.layers),
    )
    fixed = problem.staging.bytes + int(problem.size[pinned].sum())
    return problem.activation + streamed + fixed


def least_budget(problem: Problem, free: Freedom, pinned: Mask) -> tuple[int, int]:
    """(bytes, layer): the least budget, in which every unpinned weight is loaded at the latest."""
    held = residency(problem, pinned, free.latest)
    return int(held.max()), int(held.argmax())


def preload_peak(problem: Problem) -> int:
    """Bytes held at most with every weight pinned."""
    everything = problem.staging.bytes + int(problem.size.sum())
    return everything + int(problem.activation.max())


def earliest_loads(problem: Problem, free: Freedom, pinned: Mask, budget: int) -> Ints:
    """(n,) earliest step at which each weight fits when loaded in order of use.

    At step l there is room for the weights before some position cap(l) of the order, beside what
    is used at l anyway. A weight stays until its use, so at l it must lie before the least cap of
    all later steps; that least cap grows with l, and a search in it gives every step at once.
    A larger budget never makes any of these steps later.
    """
    if free.windowed:
        return _earliest_in_windows(problem, free, pinned, budget)
    # Without pinned weights; they are in every step's residency already.
    size = np.where(pinned, 0, problem.size)
    cumulative = np.concatenate(([0], np.cumsum(size)))
    cap = np.searchsorted(cumulative, room_for_bytes(problem, pinned, budget), side="right") - 1
    loads = np.searchsorted(cap, np.arange(1, len(problem.weights) + 1), side="left")
    return np.where(pinned, 0, np.minimum(loads, problem.first))


def room_for_bytes(problem: Problem, pinned: Mask, budget: int) -> Ints:
    """(N,) unpinned bytes, counted in order of use, whose objects may be there at each step.

    The least of what this step and all later ones allow, so it never falls.
    """
    size = np.where(pinned, 0, problem.size)
    room = budget - residency(problem, pinned, problem.first)
    cumulative = np.concatenate(([0], np.cumsum(size)))
    steps = np.arange(len(problem.layers))
    begun = np.searchsorted(problem.first, steps, side="right")  # weights first used by now
    allowed = cumulative[begun] + room
    return np.minimum.accumulate(allowed[::-1])[::-1]


def _earliest_in_windows(problem: Problem, free: Freedom, pinned: Mask, budget: int) -> Ints:
    """The same weight by weight: those with a window are there from its end on at the latest."""
    room = budget - residency(problem, pinned, free.latest)
    loads = np.where(pinned, 0, free.latest)
    before = 0  # made no earlier than what is used before it: the disk reads in order of use
    for at in np.flatnonzero(~pinned).tolist():
        size, latest = int(problem.size[at]), int(free.latest[at])
        tight = np.flatnonzero(room[:latest] < size)
        fits = int(tight[-1]) + 1 if len(tight) else 0
        begin = min(max(fits, before, int(free.earliest[at])), latest)
        room[begin:latest] -= size
        loads[at] = begin
        before = max(before, begin)
    return loads
