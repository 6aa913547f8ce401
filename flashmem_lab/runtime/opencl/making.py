"""Weights are made in their order, each as soon as there is room; launches do not wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter_ns

import pyopencl as cl

from flashmem_lab.program.program import Alloc, DeviceObject, Free
from flashmem_lab.runtime.opencl.disk import Loader
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.inplace import InPlace
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.signals import Signals
from flashmem_lab.runtime.opencl.transports import WeightTransport
from flashmem_lab.runtime.tables import Tables

AT_ONCE = 8
"""Weights that are made before the main thread looks after its launches again, 10 to 20 us each."""

ACTIVATIONS = 4
"""How many of those to come have their room kept, where each takes some when it begins."""


class Making:
    """Carries out the memory commands of a run; Allocs of weights may be put off.

    Args:
        specs: the objects of the program.
        tables: of the program.
        objects: where they are made.
        in_place: hears when those that it holds have ended.
        transport: hears of every weight that was made.
        loader: loads at once those that are at hand.
        signals: hears of every Alloc.

    Attributes:
        made_ns: when each Alloc was carried out, host ns, by id.
    """

    def __init__(
        self,
        specs: Mapping[str, DeviceObject],
        tables: Tables,
        objects: DeviceObjects,
        in_place: InPlace,
        transport: WeightTransport,
        loader: Loader,
        signals: Signals,
    ) -> None:
        self.made_ns: dict[int, int] = {}
        self._specs = specs
        self._tables = tables
        self._objects = objects
        self._in_place = in_place
        self._transport = transport
        self._loader = loader
        self._signals = signals
        self._put_off: deque[Alloc] = deque()
        self._laid = 0  # activations so far

    def add(self, command: Alloc) -> None:
        """Makes an activation; a weight is made when its turn comes and it has room."""
        if command.object in self._tables.made_at:
            self._put_off.append(command)
        else:
            self._objects.create(self._specs[command.object])
            self._laid += 1
            self._done(command)

    def end(self, command: Free, used: Sequence[cl.Event]) -> None:
        """Ends an object; `used` are the last commands that use it."""
        self._objects.end(command.object, used)
        if command.object in self._in_place:
            self._in_place.ended(command.object, used)
        self._signals.publish(command.id)
        self.make_what_fits()

    def make_what_fits(self) -> None:
        """Makes the weights that are next and have room now, beside the activations that are next.

        Without room for these each launch would wait for the one before it. No more than AT_ONCE
        are made: hundreds of them would keep the first launch waiting.
        """
        self._loader.load_read()
        if not self._put_off:
            return
        beside = self._objects.to_lay
        if beside:
            coming = self._tables.activations[self._laid : self._laid + ACTIVATIONS]
            beside = min(sum(coming), beside)
        for _ in range(min(AT_ONCE, len(self._put_off))):
            if not self._objects.try_create(self._specs[self._put_off[0].object], beside):
                return
            self._weight_made(self._put_off.popleft())

    def make_for(self, upload: int) -> None:
        """Makes all that must be there before `upload` can happen, waiting for room; then more."""
        weight = self._tables.weight_of.get(upload, "")
        count = self._tables.made_with.get(weight, 0)
        while self._put_off and self._tables.made_at[self._put_off[0].object] < count:
            command = self._put_off.popleft()
            self._objects.create(self._specs[command.object])
            self._weight_made(command)
        if self._loader.owes(weight):
            with translating(f"loading {weight!r}"):
                self._loader.load_until(weight)
        self.make_what_fits()

    def _weight_made(self, command: Alloc) -> None:
        with translating(f"loading {command.object!r}"):
            self._transport.created(command.object)
            self._done(command)
            self._loader.made(command.object)

    def _done(self, command: Alloc) -> None:
        self.made_ns[command.id] = perf_counter_ns()
        self._signals.publish(command.id)
