"""What is held at each step, the least budget, and how early a budget lets weights be loaded."""

from __future__ import annotations

import numpy as np

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


def least_budget(problem: Problem, pinned: Mask) -> tuple[int, int]:
    """(bytes, layer): the least budget, in which every unpinned weight is loaded at its use."""
    held = residency(problem, pinned, problem.first)
    return int(held.max()), int(held.argmax())


def preload_peak(problem: Problem) -> int:
    """Bytes held at most with every weight pinned."""
    everything = problem.staging.bytes + int(problem.size.sum())
    return everything + int(problem.activation.max())


def earliest_loads(problem: Problem, pinned: Mask, budget: int) -> Ints:
    """(n,) earliest step at which each weight fits when loaded in order of use.

    At step l there is room for the weights before some position cap(l) of the order, beside what
    is used at l anyway. A weight stays until its use, so at l it must lie before the least cap of
    all later steps; that least cap grows with l, and a search in it gives every step at once.
    A larger budget never makes any of these steps later.
    """
    # Without pinned weights; they are in every step's residency already.
    size = np.where(pinned, 0, problem.size)
    room = budget - residency(problem, pinned, problem.first)
    cumulative = np.concatenate(([0], np.cumsum(size)))
    steps = np.arange(len(problem.layers))
    begun = np.searchsorted(problem.first, steps, side="right")  # weights first used by now
    cap = np.searchsorted(cumulative, cumulative[begun] + room, side="right") - 1
    cap = np.minimum.accumulate(cap[::-1])[::-1]
    loads = np.searchsorted(cap, np.arange(1, len(problem.weights) + 1), side="left")
    return np.where(pinned, 0, np.minimum(loads, problem.first))
