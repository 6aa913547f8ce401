"""When blocks of ended weights will be wanted again.

Drivers of discrete GPUs take some 0.3 ms to give memory to an image and to take it back, and what
is taken back has to be waited for. The weights of a run and their order are known, so of all ended
blocks the one is released that will do for another weight last; and none of those that will do
soon, where the weight that lacks room can have the block of one that ends before it is needed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import accumulate

from flashmem_lab.program.program import DeviceObject, ObjectKind

AHEAD = 1
"""What is soon: before the next weights have filled the device's room so many times."""


def geometry(item: DeviceObject) -> Hashable:
    """What objects that can stand in for one another have in common."""
    if item.kind is ObjectKind.BUFFER:
        return item.kind, item.pool, item.bytes
    return item.kind, item.pool, item.bytes, item.width, item.height, item.dtype


class Foresight:
    """Knows the weights of every run, in the order in which they are made.

    Args:
        streamed: that order, without those that are made once.
        room: bytes that the device may hold.

    Attributes:
        soon: what is made before then, bytes.
    """

    def __init__(self, streamed: Sequence[DeviceObject], room: int) -> None:
        self._places = {item.name: at for at, item in enumerate(streamed)}
        self._made = list(accumulate((item.bytes for item in streamed), initial=0))
        self._uses: dict[Hashable, list[int]] = defaultdict(list)
        for at, item in enumerate(streamed):
            self._uses[geometry(item)].append(at)
        self._until: dict[tuple[str, Hashable, int], float] = {}
        self._held: Counter[Hashable] = Counter()  # live blocks of them
        self.soon = AHEAD * room

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def began(self, item: DeviceObject) -> None:
        """Hears that an object has a block."""
        if item.name in self._places:
            self._held[geometry(item)] += 1

    def ended(self, item: DeviceObject) -> None:
        """Hears that an object has left its block."""
        if item.name in self._places:
            self._held[geometry(item)] -= 1

    def ends_soon(self, item: DeviceObject) -> bool:
        """Whether a streamed weight of the same geometry is live, which ends sooner or later."""
        return self._held[geometry(item)] > 0

    def until(self, name: str, alike: Hashable, which: int) -> float:
        """How soon a block will do for a weight, if no weight before that one leaves its like.

        Args:
            name: a streamed weight that has no block yet.
            alike: geometry of the block.
            which: how many others of its like serve before it.

        Returns:
            Bytes of weights that are made from `name` on before then, into the next runs if need
            be; infinite if it will never do.
        """
        key = name, alike, which
        if key not in self._until:
            self._until[key] = self._distance(*key)
        return self._until[key]

    def _distance(self, name: str, alike: Hashable, which: int) -> float:
        uses = self._uses.get(alike)
        if not uses:
            return float("inf")
        begin = self._places[name]
        runs, at = divmod(bisect_left(uses, begin) + which, len(uses))
        return runs * self._made[-1] + self._made[uses[at]] - self._made[begin]
