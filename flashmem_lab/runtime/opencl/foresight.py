"""Which blocks of ended weights will be wanted again soon.

Drivers of discrete GPUs take some 0.2 ms to give memory to an image, or to take it back. So a block
is not released for a weight of another geometry while it will do for one of the next weights; that
weight takes a block of its own geometry that ends a little later instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from flashmem_lab.program.program import DeviceObject, ObjectKind

AHEAD = 2
"""How far it looks: at the next weights that fill the device's room so many times."""


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
    """

    def __init__(self, streamed: Sequence[DeviceObject], room: int) -> None:
        self._streamed = streamed
        self._places = {item.name: at for at, item in enumerate(streamed)}
        self._room = room
        self._wanted: dict[int, Mapping[Hashable, int]] = {}
        self._held: Counter[Hashable] = Counter()  # live blocks of them

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

    def lacking(self, name: str) -> Mapping[Hashable, int]:
        """How many blocks of each geometry `name` and weights soon after it want beside live ones.

        Args:
            name: a streamed weight that has no block yet.
        """
        wanted = self._soon(self._places[name])
        return {alike: count - self._held[alike] for alike, count in wanted.items()}

    def _soon(self, begin: int) -> Mapping[Hashable, int]:
        """Geometries of the weights from place `begin` on, into the next run if need be."""
        if begin not in self._wanted:
            counts: Counter[Hashable] = Counter()
            size = 0
            for step in range(len(self._streamed)):
                item = self._streamed[(begin + step) % len(self._streamed)]
                size += item.bytes
                if step and size > AHEAD * self._room:
                    break
                counts[geometry(item)] += 1
            self._wanted[begin] = counts
        return self._wanted[begin]
