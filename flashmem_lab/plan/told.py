"""What the host takes of a run besides: predictions have it, and greedy chooses W by it.

It goes by the number of layers and of streamed weights, whatever their size, and all that is known
of bounds goes by bytes: objectives and bounds are without it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashmem_lab.device.spec import NO_HOST
from flashmem_lab.plan.freedom import Freedom
from flashmem_lab.plan.problem import Ints, Mask, Problem
from flashmem_lab.plan.room import earliest_loads, residency


def told(problem: Problem, pinned: Mask, load_at: Ints, *, cold: bool) -> Problem:
    """The problem of a first run or of later ones, with what the host takes in that schedule.

    Args:
        problem: the model on a device.
        pinned: (n,) weights resident from step 0 on.
        load_at: (n,) first step of each streamed weight.
        cold: True for the first run.
    """
    host = problem.host
    streamed = np.bincount(problem.first[~pinned], minlength=len(problem.layers))
    besides_ns = streamed * host.streamed_ns.value
    if crowded(problem, pinned, load_at):
        besides_ns = besides_ns + host.crowded_ns.value
    if cold:  # what rises above all that was held before lies in new memory
        highest = np.maximum.accumulate(problem.activation)
        besides_ns = besides_ns + np.diff(highest, prepend=0) * host.first_touch_ns.value
    in_run = problem.in_run(cold=cold)
    return replace(
        in_run,
        duration_ns=in_run.duration_ns + besides_ns,
        host=NO_HOST,
        start_ns=(host.first_start_ns if cold else host.start_ns).value,
    )


def later_loads(problem: Problem, free: Freedom, pinned: Mask, load_at: Ints) -> Ints:
    """(n,) first step of each streamed weight in later runs, on a device whose host takes time.

    Where activations are not `crowded` a runtime keeps a place for all of them throughout, and
    weights come when they have room beside that.

    Args:
        problem: the model on a device.
        free: which weights may be where.
        pinned: (n,) weights resident from step 0 on.
        load_at: (n,) first step of each streamed weight, as planned.
    """
    if problem.host == NO_HOST or crowded(problem, pinned, load_at):
        return load_at
    most = int(residency(problem, pinned, load_at).max())
    throughout = np.full_like(problem.activation, problem.activation.max())
    held = replace(problem, activation=throughout)
    return np.maximum(load_at, earliest_loads(held, free, pinned, most))


def crowded(problem: Problem, pinned: Mask, load_at: Ints) -> bool:
    """Whether activations, as many as there ever are, have no room beside the weights in use.

    A runtime then cannot keep one place for them all from run to run, within what the plan holds
    at most.
    """
    in_use = residency(problem, pinned, problem.first) - problem.activation
    most = residency(problem, pinned, load_at).max()
    return bool(problem.activation.max() + in_use.max() > most)
