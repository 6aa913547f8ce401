"""Images and buffers of a program: made through the ledger, used again, released for room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import pyopencl as cl

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.opencl.blocks import Block, EndedBlocks
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.foresight import Foresight
from flashmem_lab.runtime.opencl.inplace import InPlace
from flashmem_lab.runtime.opencl.pages import ActivationPages

_CHANNELS = {"float32": cl.channel_type.FLOAT, "float16": cl.channel_type.HALF_FLOAT}
DeviceMemory = cl.Buffer | cl.Image


class DeviceObjects:
    """The objects that exist now, by name.

    Activations lie in one buffer where that fits (`Arena`), or at places of the host's memory where
    the device works in that (`ActivationPages`). Else, and for weights, the block of an object
    that has ended serves the next one of its geometry, without waiting: the compute queue runs in
    order, and other queues wait for `used`. What is left of ended ones is released for room.

    Args:
        context: where to create them.
        ledger: counts every block for as long as the device holds it.
        host_visible: True where the host maps weights: they then lie in memory that both see.
        written: True where kernels write weights.
        cap_bytes: what the device may hold, ended blocks too.
        arena: places of the activations, there as a whole; None for a block each.
        placed: whether kernels are told where in it their operands begin, or given parts of it.
        pages: places of the activations as pages of the host's memory, instead.
        in_place: holds the weights that the device uses where their file lies in memory.
        foresight: spares blocks that are wanted again soon; None where making them costs nothing.
        let_go: hears of memory that is about to be released.
    """

    def __init__(
        self,
        context: cl.Context,
        ledger: Ledger,
        *,
        host_visible: bool,
        written: bool,
        cap_bytes: int,
        arena: Arena | None,
        placed: bool,
        pages: Arena | None,
        in_place: InPlace,
        foresight: Foresight | None = None,
        let_go: Callable[[DeviceMemory], None] = lambda memory: None,
    ) -> None:
        self._context = context
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
        self._foresight = foresight
        self._let_go = let_go
        self._whole: cl.Buffer | None = None
        self._places: dict[str, cl.Buffer] = {}

    @property
    def to_lay(self) -> int:
        """Bytes that activations may still take, if none of their pages are given back."""
        return self._pages.bytes - self._ledger.held(Pool.BUFFER) if self._pages is not None else 0

    def __getitem__(self, name: str) -> DeviceMemory:
        return self._places[name] if name in self._places else self._live[name].memory

    def lasting(self, name: str) -> DeviceMemory:
        """The memory to which `name` comes in every run, whether it is there now or not."""
        in_place = name in self._in_place
        return self._in_place.buffer(self._context, name) if in_place else self[name]

    def begin(self, name: str) -> int:
        """The byte of `self[name]` at which the live object `name` begins."""
        return self._begins.get(name, 0)

    def buffer(self, name: str) -> cl.Buffer:
        """The buffer in which the live object `name` lies."""
        memory = self[name]
        assert isinstance(memory, cl.Buffer), "views lie on buffers"
        return memory

    def used(self, name: str) -> list[cl.Event]:
        """What must be over before another queue than the compute queue writes to `name`."""
        return list(self._live[name].used)

    def make_arena(self, objects: Iterable[DeviceObject]) -> None:
        """Makes the buffer of all activations and their places in it, once.

        Raises:
            OutOfBudget: it would break the budget.
            DeviceError: the device refused.
        """
        if self._arena is None or self._whole is not None:
            return
        size, offsets = self._arena.bytes, self._arena.offsets
        flags = cl.mem_flags.READ_WRITE
        with translating(f"creating a buffer of {size} bytes for activations"):
            self._whole = self._ledger.create(
                Pool.BUFFER, size, "activations", lambda: cl.Buffer(self._context, flags, size)
            )
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
        """Makes an object, or takes an ended block; releases ended ones if it needs their room.

        Raises:
            OutOfBudget: it would break the budget.
            DeviceError: the device refused.
        """
        if wanted.name in self._places or self._take(wanted):
            return
        if self._pages is not None and wanted.pool is Pool.BUFFER:
            self._lay(wanted, self._pages)
            return
        with translating(f"waiting for room for {wanted.name!r}"):
            while self._ended and self._lacks_room(wanted.bytes):
                self._release(self._last_wanted(wanted, done=False) or self._ended.first())
        self._make(wanted)

    def try_create(self, wanted: DeviceObject, beside: int = 0) -> bool:
        """As `create`, if that needs no waiting; whether it was done.

        Args:
            wanted: what to make.
            beside: bytes of room to leave.
        """
        if wanted.name in self._places or self._take(wanted):
            return True
        with translating(f"making room for {wanted.name!r}"):
            while self._lacks_room(wanted.bytes + beside):
                done = self._last_wanted(wanted, done=True)
                if done is None:
                    return False
                self._release(done)
        self._make(wanted)
        return True

    def _last_wanted(self, wanted: DeviceObject, *, done: bool) -> Block | None:
        """An ended block to release for `wanted`.

        Args:
            wanted: what lacks room.
            done: whether the device must use the block no more. If so, `wanted` can wait, too.
        """
        foresight = self._foresight
        if foresight is None or wanted.name not in foresight:
            return self._ended.first_done() if done else None
        can_wait = done and foresight.ends_soon(wanted)
        return self._ended.last_wanted(
            partial(foresight.until, wanted.name),
            at_least=foresight.soon if can_wait else 0.0,
            done=done,
        )

    def end(self, name: str, used: Iterable[cl.Event]) -> None:
        """Ends an object; `used` are the last commands that use it."""
        if name in self._places:
            return
        block = self._live.pop(name)
        if self._foresight is not None:
            self._foresight.ended(block.spec)
        if self._pages is not None and block.spec.pool is Pool.BUFFER:
            block.left = self._pages.end(block.spec)
        self._ended.add(block, used)

    def release_all(self) -> None:
        """Releases whatever is left; no command may be running."""
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
        if self._foresight is not None:
            self._foresight.began(wanted)

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
        pixel = cl.ImageFormat(cl.channel_order.RGBA, _CHANNELS[wanted.dtype])
        return cl.create_image(self._context, flags, pixel, shape=(wanted.width, wanted.height))
