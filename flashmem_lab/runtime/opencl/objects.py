"""Images and buffers of a program: made and released through the ledger, reused where they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyopencl as cl

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, DeviceObject, MemoryCommand, ObjectKind
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.opencl.errors import translating

_CHANNELS = {"float32": cl.channel_type.FLOAT, "float16": cl.channel_type.HALF_FLOAT}
DeviceMemory = cl.Buffer | cl.Image
Geometry = tuple[ObjectKind, Pool, int, int, int, str]


class DeviceObjects:
    """The objects that exist now, by name.

    A freed object whose geometry an allocation of the same turn asks for is handed over instead
    of being released and created anew: the driver need not find, clear and map the pages again.
    Frees of a turn come before its allocations, so what is held physically never exceeds what
    the ledger held before the turn or holds after it, and the budget stays kept.

    Args:
        context: where to create them.
        ledger: counts them.
        host_visible: True where the host maps weights: they then lie in memory that both see.
    """

    def __init__(self, context: cl.Context, ledger: Ledger, *, host_visible: bool) -> None:
        self._context = context
        self._ledger = ledger
        visible = cl.mem_flags.ALLOC_HOST_PTR if host_visible else 0
        self._weight_flags = cl.mem_flags.READ_ONLY | visible
        self._live: dict[str, tuple[DeviceObject, DeviceMemory]] = {}
        self._parked: dict[Geometry, list[DeviceMemory]] = {}

    def __getitem__(self, name: str) -> DeviceMemory:
        return self._live[name][1]

    def buffer(self, name: str) -> cl.Buffer:
        """The live buffer `name`."""
        memory = self._live[name][1]
        assert isinstance(memory, cl.Buffer), "views lie on buffers"
        return memory

    def create(self, wanted: DeviceObject) -> None:
        """Makes an object, or takes over a parked one of the same geometry.

        Raises:
            OutOfBudget: it would break the budget.
            DeviceError: the device refused.
        """

        def make() -> DeviceMemory:
            parked = self._parked.get(geometry(wanted))
            return parked.pop() if parked else self._make(wanted)

        with translating(f"creating {wanted.kind} {wanted.name!r} of {wanted.bytes} bytes"):
            made = self._ledger.create(wanted.pool, wanted.bytes, wanted.name, make)
        self._live[wanted.name] = (wanted, made)

    def release(self, name: str, *, hand_over: bool = False) -> None:
        """Releases an object that no command uses any more, or parks it for the next allocation."""
        spec, memory = self._live.pop(name)
        if hand_over:
            self._parked.setdefault(geometry(spec), []).append(memory)
        else:
            memory.release()
        self._ledger.release(spec.pool, spec.bytes)

    def release_all(self) -> None:
        """Releases whatever is left; no command may be running."""
        for name in list(self._live):
            self.release(name)
        for parked in self._parked.values():
            for memory in parked:
                memory.release()
        self._parked.clear()

    def _make(self, wanted: DeviceObject) -> DeviceMemory:
        weight = wanted.pool is Pool.TEXTURE
        flags = self._weight_flags if weight else cl.mem_flags.READ_WRITE
        if wanted.kind is ObjectKind.BUFFER:
            return cl.Buffer(self._context, flags, wanted.bytes)
        pixel = cl.ImageFormat(cl.channel_order.RGBA, _CHANNELS[wanted.dtype])
        return cl.create_image(self._context, flags, pixel, shape=(wanted.width, wanted.height))


def geometry(spec: DeviceObject) -> Geometry:
    """What two objects must share to stand in for one another."""
    if spec.kind is ObjectKind.BUFFER:
        return (spec.kind, spec.pool, spec.bytes, 0, 0, "")
    return (spec.kind, spec.pool, spec.bytes, spec.width, spec.height, spec.dtype)


def hand_overs(
    memory: Sequence[MemoryCommand], objects: Mapping[str, DeviceObject], *, first_run: bool
) -> frozenset[int]:
    """Ids of the Frees whose object an Alloc of the same turn can take over."""
    chosen: set[int] = set()
    freed: dict[Geometry, list[int]] = {}
    allocating = False
    for command in memory:
        if isinstance(command, Alloc):
            if command.once and not first_run:
                continue
            allocating = True
            waiting = freed.get(geometry(objects[command.object]))
            if waiting:
                chosen.add(waiting.pop())
        else:
            if allocating:
                freed, allocating = {}, False
            freed.setdefault(geometry(objects[command.object]), []).append(command.id)
    return frozenset(chosen)
