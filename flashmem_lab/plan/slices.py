"""Warm plans by how much they pin: a bound, and plans, for every slice of pinned bytes.

What is not pinned is read in every run, so a plan that pins little is too slow for that alone; one
that pins much leaves little room to stream, and waits. In between lies a narrow range of bytes.
It is halved, the weakest slice first, until each is narrow; then those that are still too weak are
looked into with all that the dynamic program (`ways`) can tell.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import combinations

from flashmem_lab.plan.incumbent import ROUNDING, Incumbent
from flashmem_lab.plan.lead import Lead
from flashmem_lab.plan.ways import Ways

WIDE, NARROW = 5e-3, 5e-4
"""Shares of the objective that reading a slice's bytes takes: wider ones are only halved, narrower
ones no more."""

ATTEMPTS = 3
"""Prices tried before a slice is halved."""

CEILINGS = (0.2, 1.0)
"""What plans may cost, from the bound of their slice to the best known: the lower, the fewer ways
there are, and the more of them survive."""

PRICES = (1.0, 0.0)
"""What a streamed byte is worth in quick bounds, in times that reading it takes."""

STRIDE = 1.15
"""From one price to the next where no price was too high, or none too low."""

DEAREST = 4.0
"""The highest price tried."""

CLOSE = 0.005
"""Prices this close, relative to each other, are the same."""


@dataclass(order=True, slots=True)
class _Slice:
    """Plans that pin `least` to `most` bytes, and what is known of them.

    Attributes:
        bound: none of them costs less, ns.
        least, most: bytes.
        giants: those of the largest weights that are pinned.
        price: of a streamed byte to try next, in times that reading it takes.
        low, high: prices at which the program streamed too little, and too much.
        attempts: prices tried.
        searched: plans were looked for.
    """

    bound: float
    least: float = field(compare=False)
    most: float = field(compare=False)
    giants: tuple[int, ...] = field(default=(), compare=False)
    price: float = field(default=1.0, compare=False)
    low: float = field(default=0.0, compare=False)
    high: float = field(default=float("inf"), compare=False)
    attempts: int = field(default=0, compare=False)
    searched: bool = field(default=False, compare=False)

    @property
    def exhausted(self) -> bool:
        """All prices between are the same, or nothing makes the program stream enough."""
        return self.low >= min(DEAREST, self.high * (1 - CLOSE))

    def learn(self, read: float, needed: float) -> None:
        """Moves the price by what the program streamed."""
        self.attempts += 1
        if read < needed:
            self.low = self.price
        else:
            self.high = self.price
        if self.high == float("inf"):
            self.price *= STRIDE
        elif not self.low and self.price > 0.1:
            self.price /= STRIDE
        else:
            self.price = (self.low + self.high) / 2


class Slices:
    """All slices of a warm problem, the weakest first."""

    def __init__(self, state: Incumbent) -> None:
        self._state = state
        self._price = 1.0  # that was right for the latest slice
        self._lead = Lead(state.problem, state.free, state.budget)
        most = self._lead.most
        least = self._pinned_at_least(state.objective)
        giants = self._lead.giants
        self._slices = [
            self._quick(least, most, some)
            for count in range(len(giants) + 1)
            for some in combinations(giants, count)
        ]
        heapq.heapify(self._slices)

    @property
    def bound(self) -> float:
        """No plan costs less, ns."""
        return self._slices[0].bound * (1 - ROUNDING)

    def improve(self, share: float) -> None:
        """Raises the state's bound and offers plans, within a share of the time that is left."""
        state = self._state
        until = state.elapsed_s + share * state.left_s
        while not state.done and state.elapsed_s < until:
            if not self._look_into():
                break
            state.raise_bound(min(self.bound, state.objective))

    def _look_into(self) -> bool:
        """Learns something of the weakest slice; False where there is no more to learn."""
        weakest = heapq.heappop(self._slices)
        share = (weakest.most - weakest.least) / self._lead.rate / self._state.objective
        pieces = [weakest]
        if share <= WIDE and weakest.attempts < ATTEMPTS and not weakest.exhausted:
            self._raise(weakest)
            self._search()
        elif share > NARROW:
            pieces = self._halves(weakest)
        elif not weakest.exhausted:
            self._raise(weakest)
        else:
            heapq.heappush(self._slices, weakest)
            return self._search()
        for piece in pieces:
            heapq.heappush(self._slices, piece)
        return True

    def _search(self) -> bool:
        """Looks for plans in the weakest slice that was not searched yet; False if all were."""
        state, rate = self._state, self._lead.rate
        some = min((one for one in self._slices if not one.searched), default=None)
        if some is None or some.bound >= state.objective:
            return False
        some.searched = True
        ways = Ways(self._lead.beside(some.most, some.giants), stop=lambda: state.stopped)
        for share in CEILINGS:
            before = state.objective
            ceiling = some.bound + share * (before - some.bound)
            for pinned in ways.plans(some.most, some.price / rate, ceiling):
                state.try_pins(pinned)
            if state.objective < before:
                break
        return True

    def _halves(self, some: _Slice) -> list[_Slice]:
        middle = (some.least + some.most) / 2
        return [
            self._quick(least, most, some.giants, some.bound)
            for least, most in ((some.least, middle), (middle, some.most))
        ]

    def _quick(
        self, least: float, most: float, giants: tuple[int, ...], bound: float = 0.0
    ) -> _Slice:
        lead, enough = self._lead, self._state.objective
        bound = max(bound, lead.reading(most))
        beside = lead.beside(least, giants)
        if beside.unstreamable > most:
            bound = enough
        for price in PRICES:
            if bound < enough:
                bound = max(bound, beside.quick_bound(most, price / lead.rate))
        return _Slice(bound, least, most, giants, self._price)

    def _raise(self, some: _Slice) -> None:
        lead = self._lead
        ways = Ways(lead.beside(some.least, some.giants), stop=lambda: self._state.stopped)
        found = ways.bound(some.most, some.price / lead.rate, self._state.objective)
        some.bound = max(some.bound, found.bound)
        if found.read is not None:
            some.learn(found.read, lead.total - some.most)
            self._price = some.price

    def _pinned_at_least(self, objective: float) -> float:
        """Bytes of which plans that pin fewer cost more than that."""
        least, most = 0.0, self._lead.most
        while most - least > 1:
            middle = (least + most) / 2
            if self._lead.reading(middle) >= objective:
                least = middle
            else:
                most = middle
        return least
