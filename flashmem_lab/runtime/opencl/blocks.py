"""Blocks of device memory whose objects have ended, kept for the next ones of their geometry."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Hashable, Iterable
from dataclasses import dataclass, replace

import pyopencl as cl

from flashmem_lab.program.program import DeviceObject, ObjectKind


@dataclass(frozen=True, slots=True)
class Block:
    """Memory of the device.

    Attributes:
        spec: an object that it was made for, or has served since.
        memory: what the driver gave.
        used: the last commands that use it, once its object has ended.
    """

    spec: DeviceObject
    memory: cl.Buffer | cl.Image
    used: tuple[cl.Event, ...] = ()

    def done(self) -> bool:
        """Whether the device uses it no more."""
        complete = cl.command_execution_status.COMPLETE
        return all(event.command_execution_status == complete for event in self.used)

    def wait(self) -> None:
        """Waits until the device uses it no more."""
        for event in self.used:
            event.wait()


class EndedBlocks:
    """Ended blocks, the oldest first.

    Args:
        in_place: weights whose blocks are of no use to any other object.
    """

    def __init__(self, in_place: Container[str]) -> None:
        self._in_place = in_place
        self._blocks: dict[int, Block] = {}  # in the order in which they ended
        self._alike: dict[Hashable, deque[int]] = defaultdict(deque)
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, block: Block, used: Iterable[cl.Event]) -> None:
        """Adds a block whose object has ended; `used` are the last commands that use it."""
        self._blocks[self._next] = replace(block, used=tuple(used))
        self._alike[self._key(block.spec)].append(self._next)
        self._next += 1

    def take(self, wanted: DeviceObject) -> Block | None:
        """The oldest block that will do for `wanted`, now of that object."""
        alike = self._alike[self._key(wanted)]
        return replace(self._blocks.pop(alike.popleft()), spec=wanted) if alike else None

    def oldest(self) -> Block:
        """The block that ended first; it is no longer here."""
        at, block = next(iter(self._blocks.items()))
        del self._blocks[at]
        self._alike[self._key(block.spec)].popleft()
        return block

    def oldest_done(self) -> Block | None:
        """The block that ended first, if the device uses it no more; it is no longer here.

        Objects end in the order of the compute queue: those that ended later are rarely done.
        """
        return self.oldest() if self._blocks[next(iter(self._blocks))].done() else None

    def _key(self, spec: DeviceObject) -> Hashable:
        """What blocks that can stand in for one another have in common."""
        if spec.name in self._in_place:
            return spec.name
        if spec.kind is ObjectKind.BUFFER:
            return spec.kind, spec.pool, spec.bytes
        return spec.kind, spec.pool, spec.bytes, spec.width, spec.height, spec.dtype
