"""Blocks of device memory whose objects have ended, kept for the next ones of their geometry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyopencl as cl

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind

Geometry = tuple[ObjectKind, Pool, int, int, int, str]


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
    """Ended blocks, the oldest first."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}  # in the order in which they ended
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, block: Block, used: Iterable[cl.Event]) -> None:
        """Adds a block whose object has ended; `used` are the last commands that use it."""
        self._blocks[self._next] = replace(block, used=tuple(used))
        self._next += 1

    def take(self, wanted: DeviceObject) -> Block | None:
        """The oldest block of the geometry of `wanted`, now of that object."""
        for at, block in self._blocks.items():
            if geometry(block.spec) == geometry(wanted):
                return replace(self._blocks.pop(at), spec=wanted)
        return None

    def oldest(self) -> Block:
        """The block that ended first; it is no longer here."""
        return self._blocks.pop(next(iter(self._blocks)))

    def first_done(self) -> Block | None:
        """The first that the device uses no more; it is no longer here."""
        for at, block in self._blocks.items():
            if block.done():
                return self._blocks.pop(at)
        return None


def geometry(spec: DeviceObject) -> Geometry:
    """What two objects must share to stand in for one another."""
    if spec.kind is ObjectKind.BUFFER:
        return (spec.kind, spec.pool, spec.bytes, 0, 0, "")
    return (spec.kind, spec.pool, spec.bytes, spec.width, spec.height, spec.dtype)
