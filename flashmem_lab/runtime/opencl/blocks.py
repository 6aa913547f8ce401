"""Blocks of device memory whose objects have ended, kept for the next ones of their geometry."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass

import pyopencl as cl

from flashmem_lab.program.program import DeviceObject, ObjectKind
from flashmem_lab.runtime.opencl.pages import Left


@dataclass(eq=False, slots=True)
class Block:
    """Memory of the device.

    Attributes:
        spec: the object that it was made for, or that it serves now.
        memory: what the driver gave.
        used: the last commands that use it, once its object has ended.
        left: what is left of it then, if it is a place among `ActivationPages`.
    """

    spec: DeviceObject
    memory: cl.Buffer | cl.Image
    used: tuple[cl.Event, ...] = ()
    left: Left | None = None

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

    Places of activations are released last: their pages come back cleared, one by one, as they are
    touched.

    Args:
        in_place: weights whose blocks are of no use to any other object.
    """

    def __init__(self, in_place: Container[str]) -> None:
        self._in_place = in_place
        # In the order in which they ended, by a number that grows.
        self._blocks: dict[int, Block] = {}
        self._places: dict[int, Block] = {}
        self._alike: dict[Hashable, deque[int]] = defaultdict(deque)
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._blocks or self._places)

    def add(self, block: Block, used: Iterable[cl.Event]) -> None:
        """Adds a block whose object has ended; `used` are the last commands that use it."""
        block.used = tuple(used)
        if block.left is not None:
            self._places = {  # nothing is left of those that others have taken over
                at: one for at, one in self._places.items() if one.left and one.left.parts
            }
            self._places[self._next] = block
        else:
            self._blocks[self._next] = block
            self._alike[self._key(block.spec)].append(self._next)
        self._next += 1

    def take(self, wanted: DeviceObject) -> Block | None:
        """The oldest block that will do for `wanted`, now of that object."""
        alike = self._alike[self._key(wanted)]
        if not alike:
            return None
        block = self._blocks.pop(alike.popleft())
        block.spec = wanted
        return block

    def first(self) -> Block:
        """The block to release first, a place if there is no other; it is no longer here."""
        if self._blocks:
            return self._pop()
        return self._places.pop(_oldest(self._places))

    def first_done(self) -> Block | None:
        """The oldest but for places, if the device uses it no more; it is no longer here.

        Objects end in the order of the compute queue: those that ended later are rarely done.
        """
        if self._blocks and self._blocks[_oldest(self._blocks)].done():
            return self._pop()
        return None

    def _pop(self) -> Block:
        block = self._blocks.pop(_oldest(self._blocks))
        self._alike[self._key(block.spec)].popleft()
        return block

    def _key(self, spec: DeviceObject) -> Hashable:
        """What blocks that can stand in for one another have in common."""
        return spec.name if spec.name in self._in_place else _geometry(spec)


def _oldest(blocks: Mapping[int, Block]) -> int:
    return next(iter(blocks))


def _geometry(item: DeviceObject) -> Hashable:
    if item.kind is ObjectKind.BUFFER:
        return item.kind, item.pool, item.bytes
    return item.kind, item.pool, item.bytes, item.width, item.height, item.dtype
