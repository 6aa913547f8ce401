"""Weights and activations of a program in one buffer: nothing is made or released as it runs."""

from __future__ import annotations

from collections.abc import Container, Iterable

import pyopencl as cl

from flashmem_lab.errors import PlanError
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, Free, ObjectKind, Program
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.objects import DeviceMemory, texel_format
from flashmem_lab.runtime.places import Places


class OneBuffer:
    """The objects of a program at their places; see `DeviceObjects`.

    Images are rows of a line of texels over the whole buffer, which kernels are told
    (`program.placed`).

    Args:
        context: where to make it.
        ledger: counts it, once, for as long as it is there.
        program: whose objects.
        places: theirs.
    """

    def __init__(
        self, context: cl.Context, ledger: Ledger, program: Program, places: Places
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._objects = program.objects
        self._places = places
        self._last_use = _last_uses(program)
        self._awaited = frozenset(places.behind.values())
        self._furthest = -1  # in the compute lane, of all that uses what has ended in this run
        self._used: tuple[cl.Event, ...] = ()  # of that one
        self._ended: dict[str, tuple[cl.Event, ...]] = {}  # by then, when one of them ended
        self._whole: cl.Buffer | None = None
        self._lines: dict[str, cl.Image] = {}  # by type of texels

    @property
    def lasting(self) -> Container[str]:
        """See `DeviceObjects`."""
        return self._places.lasting

    @property
    def fixed(self) -> Container[str]:
        """See `DeviceObjects`: all of them."""
        return self._objects

    @property
    def to_lay(self) -> int:
        """Nothing: activations have their places."""
        return 0

    def __getitem__(self, name: str) -> DeviceMemory:
        item = self._objects[name]
        return self._lines[item.dtype] if item.kind is ObjectKind.IMAGE2D else self.buffer(name)

    def always(self, name: str) -> DeviceMemory:
        """See `DeviceObjects`."""
        return self[name]

    def begin(self, name: str) -> int:
        """See `DeviceObjects`."""
        return self._places.offsets[name]

    def target(self, name: str) -> tuple[DeviceMemory, int]:
        """See `DeviceObjects`: the buffer, of an image too."""
        return self.buffer(name), self._places.offsets[name]

    def buffer(self, name: str) -> cl.Buffer:
        """See `DeviceObjects`."""
        assert self._whole is not None, f"{name} is used in a run"
        return self._whole

    def used(self, name: str) -> list[cl.Event]:
        """See `DeviceObjects`: the last use of whatever had ended before its place was left.

        The compute queue runs in order, so all other uses are over then.
        """
        return list(self._ended.get(self._places.behind.get(name, ""), ()))

    def begin_run(self) -> None:
        """See `DeviceObjects`."""
        self._ended.clear()
        self._furthest, self._used = -1, ()
        if self._whole is not None:
            return
        size, weights = self._places.bytes, self._places.weight_bytes
        flags = cl.mem_flags.READ_WRITE

        def make() -> cl.Buffer:
            return cl.Buffer(self._context, flags, size)

        with translating(f"creating a buffer of {size} bytes for weights and activations"):
            self._whole = self._ledger.create(Pool.TEXTURE, weights, "weights", make)
            self._ledger.create(Pool.BUFFER, size - weights, "activations", lambda: None)
            for item in self._objects.values():
                if item.kind is ObjectKind.IMAGE2D and item.dtype not in self._lines:
                    pixel = texel_format(item)
                    shape = (size // pixel.itemsize,)
                    self._lines[item.dtype] = cl.create_image(
                        self._context, flags, pixel, shape=shape, buffer=self._whole
                    )

    def create(self, wanted: DeviceObject) -> None:
        """See `DeviceObjects`. Room never lacks: that is how places are chosen.

        Raises:
            PlanError: it does, so that something would be written over.
        """
        if not self.try_create(wanted):
            raise PlanError(
                f"{wanted.name!r} is needed before its place is left",
                hint="the plan or bundle is damaged: make it anew",
            )

    def try_create(self, wanted: DeviceObject, beside: int = 0) -> bool:
        """See `DeviceObjects`: whether the last use of its place is enqueued."""
        behind = self._places.behind.get(wanted.name)
        return behind is None or behind in self._ended

    def end(self, name: str, used: Iterable[cl.Event]) -> None:
        """See `DeviceObjects`. Objects need not end in the order of their last uses."""
        if self._last_use[name] >= self._furthest:
            self._furthest, self._used = self._last_use[name], tuple(used)
        if name in self._awaited:
            self._ended[name] = self._used

    def release_all(self) -> None:
        """See `DeviceObjects`."""
        self._ended.clear()
        self._used = ()
        while self._lines:
            self._lines.popitem()[1].release()
        if self._whole is not None:
            self._whole.release()
            self._whole = None
            for pool in (Pool.TEXTURE, Pool.BUFFER):
                self._ledger.release(pool, self._ledger.held(pool))


def _last_uses(program: Program) -> dict[str, int]:
    """Place in the compute lane of the last command that uses each object that is freed."""
    place = {command.id: at for at, command in enumerate(program.compute)}
    return {
        command.object: max((place[one] for one in command.after if one in place), default=-1)
        for command in program.memory
        if isinstance(command, Free)
    }
