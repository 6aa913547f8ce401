"""A local search for W: exchanges of weights, on the exact clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from flashmem_lab.plan.incumbent import Incumbent
from flashmem_lab.plan.problem import Ints, Mask

PATIENCE = 4000
"""Steps of the search without an improvement, after which it has converged: at most these,"""

PATIENCE_PER_WEIGHT = 20
"""and at most this many for each weight that may be pinned or not."""

STALE = 8
"""Walks from the same schedule without an improvement, after which there will be none."""

FEW = 8
"""Open weights of which every subset is tried instead."""

REMOTE = 0.5
"""Share of the steps that exchange two weights anywhere, not two near each other in the order."""

NEAR = 12
"""Places in the order that are near."""


class Walk:
    """Exchanges weights in W for others as long as that does not cost more."""

    def __init__(self, state: Incumbent, rng: random.Random) -> None:
        self._state, self._rng = state, rng
        size, free = state.problem.size, state.free
        open_ = ~free.forced & ~free.never
        if open_.sum() > FEW:
            open_ &= size * 1000 > size.max()  # the light ones decide nothing
        self._open: Ints = np.flatnonzero(open_)
        self.complete = False  # every W was tried

    def improve(self, start: Mask, share: float = 1.0) -> None:
        """Walks from `start` until nothing has improved for long, and offers the best of it.

        Args:
            start: (n,) a W.
            share: of the time left, at most.
        """
        state = self._state
        until = state.elapsed_s + share * state.left_s
        if self.complete:
            return
        if len(self._open) <= FEW:
            self._try_all()
            return
        pinned, idle = start.copy(), 0
        patience = min(PATIENCE, PATIENCE_PER_WEIGHT * len(self._open))
        current = state.estimate(pinned)
        while idle < patience and not state.done and state.elapsed_s < until:
            changed = self._neighbour(pinned)
            objective = state.estimate(changed)
            idle += 1
            if objective <= current:
                if objective < current * (1 - 1e-9):
                    idle = 0
                    if objective < state.objective:
                        state.try_pins(changed)
                current, pinned = objective, changed
        state.settle(pinned)  # what the walk estimates leaves out that bytes may be late

    def improve_on(self, enough: Callable[[], bool]) -> None:
        """Walks on from the best schedule, each time by other exchanges, until `enough`."""
        state, stale = self._state, 0
        while stale < STALE and not self.complete and not state.stopped and not enough():
            before = state.objective
            self.improve(state.best.pinned)
            stale = 0 if state.objective < before else stale + 1

    def _try_all(self) -> None:
        self.complete = True
        for chosen in range(1 << len(self._open)):
            pinned = self._state.free.forced.copy()
            pinned[self._open[[at for at in range(len(self._open)) if chosen >> at & 1]]] = True
            self._state.try_pins(pinned)
            self._state.settle(pinned)

    def _neighbour(self, pinned: Mask) -> Mask:
        rng, open_ = self._rng, self._open
        changed = pinned.copy()
        kind = rng.random()
        at = rng.randrange(len(open_))
        kept = pinned[open_]
        if kind < REMOTE and kept.any() and not kept.all():
            changed[rng.choice(open_[kept])] = False
            changed[rng.choice(open_[~kept])] = True
        else:
            changed[open_[at]] ^= True
        if rng.random() < REMOTE:
            near = min(max(at + rng.randint(-NEAR, NEAR), 0), len(open_) - 1)
            changed[open_[near]] ^= True
        return changed
