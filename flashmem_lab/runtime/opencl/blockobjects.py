"""Images and buffers of their own: made through the ledger, used again, released for room."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

import pyopencl as cl

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind, Program
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.opencl.blocks import Block, EndedBlocks
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.inplace import InPlace
from flashmem_lab.runtime.opencl.objects import DeviceMemory, texel_format
from flashmem_lab.runtime.opencl.pages import ActivationPages


class BlockObjects:
    """The objects that exist now, by name; see `DeviceObjects`.

    Activations lie in one buffer where that fits (`Arena`), or at places of the host's memory where
    the device works in that (`ActivationPages`). Else, and for weights, the block of an object
    that has ended serves the next one of its geometry, without waiting: the compute queue runs in
    order, and other queues wait for `used`. What is left of ended ones is released for room.

    Args:
        context: where to create them.
        program: whose objects.
        ledger: counts every block for as long as the device holds it.
        host_visible: True where the host maps weights: they then lie in memory that both see.
        written: True where kernels write weights.
        cap_bytes: what the device may hold, ended blocks too.
        arena: places of the activations, there as a whole; None for a block each.
        placed: whether kernels are told where in it their operands begin, or given parts of it.
        pages: places of the activations as pages of the host's memory, instead.
        in_place: holds the weights that the device uses where their file lies in memory.
        let_go: hears of memory that is about to be released.
    """

    def __init__(
        self,
        context: cl.Context,
        program: Program,
        ledger: Ledger,
        *,
        host_visible: bool,
        written: bool,
        cap_bytes: int,
        arena: Arena | None,
        placed: bool,
        pages: Arena | None,
        in_place: InPlace,
        let_go: Callable[[DeviceMemory], None] = lambda memory: None,
    ) -> None:
        self._context = context
        self._program = program
        self._ledger = ledger
        visible = cl.mem_flags.ALLOC_HOST_PTR if host_visible else 0
        access = cl.mem_flags.READ_WRITE if written else cl.mem_flags.READ_ONLY
        self._weight_flags = access | visible
        self._cap_bytes = cap_bytes
        self._live: dict[str, Block] = {}
        self._ended = EndedBlocks(in_place)
        self._arena = arena
        self._placed = placed
        self._begins: Mapping[str, int] = {}
        self._pages = ActivationPages(context, pages) if pages is not None else None
        self._in_place = in_place
        self._let_go = let_go
        self._whole: cl.Buffer | None = None
        self._places: dict[str, cl.Buffer] = {}

    @property
    def lasting(self) -> Container[str]:
        """See `DeviceObjects`."""
        return self._arena.offsets if self._arena is not None else ()

    @property
    def fixed(self) -> Container[str]:
        """See `DeviceObjects`."""
        return self._in_place

    @property
    def to_lay(self) -> int:
        """See `DeviceObjects`."""
        return self._pages.bytes - self._ledger.held(Pool.BUFFER) if self._pages is not None else 0

    def __getitem__(self, name: str) -> DeviceMemory:
        return self._places[name] if name in self._places else self._live[name].memory

    def always(self, name: str) -> DeviceMemory:
        """See `DeviceObjects`."""
        in_place = name in self._in_place
        return self._in_place.buffer(self._context, name) if in_place else self[name]

    def begin(self, name: str) -> int:
        """See `DeviceObjects`."""
        return self._begins.get(name, 0)

    def target(self, name: str) -> tuple[DeviceMemory, int]:
        """See `DeviceObjects`."""
        return self[name], self.begin(name)

    def buffer(self, name: str) -> cl.Buffer:
        """See `DeviceObjects`."""
        memory = self[name]
        assert isinstance(memory, cl.Buffer), "views lie on buffers"
        return memory

    def used(self, name: str) -> list[cl.Event]:
        """See `DeviceObjects`."""
        return list(self._live[name].used)

    def begin_run(self) -> None:
        """See `DeviceObjects`: makes the buffer of all activations and their places in it."""
        if self._arena is None or self._whole is not None:
            return
        size, offsets = self._arena.bytes, self._arena.offsets
        flags = cl.mem_flags.READ_WRITE
        with translating(f"creating a buffer of {size} bytes for activations"):
            self._whole = self._ledger.create(
                Pool.BUFFER, size, "activations", lambda: cl.Buffer(self._context, flags, size)
            )
            objects = self._program.objects.values()
            held = [item for item in objects if item.pool is Pool.BUFFER]
            if self._placed:
                self._begins = offsets
                self._places = dict.fromkeys(offsets, self._whole)
            else:
                self._places = {
                    item.name: self._whole.get_sub_region(offsets[item.name], item.bytes, flags)
                    for item in held
                }

    def create(self, wanted: DeviceObject) -> None:
        """See `DeviceObjects`: takes an ended block, or releases some that it needs the room of."""
        if wanted.name in self._places or self._take(wanted):
            return
        if self._pages is not None and wanted.pool is Pool.BUFFER:
            self._lay(wanted, self._pages)
            return
        with translating(f"waiting for room for {wanted.name!r}"):
            while self._ended and self._lacks_room(wanted.bytes):
                self._release(self._ended.first())
        self._make(wanted)

    def try_create(self, wanted: DeviceObject, beside: int = 0) -> bool:
        """See `DeviceObjects`."""
        if wanted.name in self._places or self._take(wanted):
            return True
        with translating(f"making room for {wanted.name!r}"):
            while self._lacks_room(wanted.bytes + beside):
                done = self._ended.first_done()
                if done is None:
                    return False
                self._release(done)
        self._make(wanted)
        return True

    def end(self, name: str, used: Iterable[cl.Event]) -> None:
        """See `DeviceObjects`."""
        if name in self._places:
            return
        block = self._live.pop(name)
        if self._pages is not None and block.spec.pool is Pool.BUFFER:
            block.left = self._pages.end(block.spec)
        self._ended.add(block, used)

    def release_all(self) -> None:
        """See `DeviceObjects`."""
        while self._ended:
            self._release(self._ended.first())
        while self._live:
            self._release(self._live.popitem()[1])
        self._in_place.release()
        if self._pages is not None:
            self._pages.release()
        for part in self._places.values():
            if part is not self._whole:
                part.release()
        self._places.clear()
        if self._whole is not None:
            self._ledger.release(Pool.BUFFER, self._whole.size)
            self._whole.release()
            self._whole = None

    def _lay(self, wanted: DeviceObject, pages: ActivationPages) -> None:
        """Makes an activation at its place; what ended ones left there is held already."""
        more = wanted.bytes - pages.left_for(wanted)
        with translating(f"waiting for room for {wanted.name!r}"):
            while self._ended and self._lacks_room(more):
                self._release(self._ended.first())
                more = wanted.bytes - pages.left_for(wanted)
        pages.take_over(wanted)
        memory = self._ledger.create(wanted.pool, more, wanted.name, lambda: pages.place(wanted))
        self._live[wanted.name] = Block(wanted, memory)

    def _take(self, wanted: DeviceObject) -> bool:
        if self._pages is not None and wanted.pool is Pool.BUFFER:
            return False
        block = self._ended.take(wanted)
        if block is not None:
            self._begin(wanted, block)
        return block is not None

    def _lacks_room(self, size: int) -> bool:
        return self._ledger.total + size > self._cap_bytes

    def _make(self, wanted: DeviceObject) -> None:
        with translating(f"creating {wanted.kind} {wanted.name!r} of {wanted.bytes} bytes"):
            memory = self._ledger.create(
                wanted.pool, wanted.bytes, wanted.name, lambda: self._memory(wanted)
            )
        self._begin(wanted, Block(wanted, memory))

    def _begin(self, wanted: DeviceObject, block: Block) -> None:
        self._live[wanted.name] = block

    def _release(self, block: Block) -> None:
        block.wait()
        size = block.spec.bytes
        if self._pages is not None and block.spec.pool is Pool.BUFFER:
            size = self._pages.give_back(block.left or self._pages.end(block.spec))
        elif block.spec.name in self._in_place:
            self._in_place.forget(block.spec.name)
        else:
            self._let_go(block.memory)
            block.memory.release()
        self._ledger.release(block.spec.pool, size)

    def _memory(self, wanted: DeviceObject) -> DeviceMemory:
        if wanted.name in self._in_place:
            return self._in_place.buffer(self._context, wanted.name)
        weight = wanted.pool is Pool.TEXTURE
        flags = self._weight_flags if weight else cl.mem_flags.READ_WRITE
        if wanted.kind is ObjectKind.BUFFER:
            return cl.Buffer(self._context, flags, wanted.bytes)
        shape = wanted.width, wanted.height
        return cl.create_image(self._context, flags, texel_format(wanted), shape=shape)
