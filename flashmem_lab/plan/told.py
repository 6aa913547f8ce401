"""What the host takes of a run besides: predictions have it, plans are chosen without it.

It goes by the number of layers and of streamed weights, whatever their size, and all that is known
of good plans and of bounds goes by bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashmem_lab.device.spec import NO_HOST
from flashmem_lab.plan.problem import Ints, Mask, Problem
from flashmem_lab.plan.room import residency


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


def crowded(problem: Problem, pinned: Mask, load_at: Ints) -> bool:
    """Whether activations, as many as there ever are, have no room beside the weights in use.

    A runtime then cannot keep one place for them all from run to run, within what the plan holds
    at most.
    """
    in_use = residency(problem, pinned, problem.first) - problem.activation
    most = residency(problem, pinned, load_at).max()
    return bool(problem.activation.max() + in_use.max() > most)
