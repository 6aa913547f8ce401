"""Weights are made in their order, each as soon as there is room; launches do not wait for it."""

from __future__ import annotations

from collections import deque
from time import perf_counter_ns

from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import made_with, weights_as_made
from flashmem_lab.runtime.opencl.errors import translating
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.signals import Signals
from flashmem_lab.runtime.opencl.transports import WeightTransport


class Making:
    """Carries out the Allocs of a run; those of weights may be put off.

    Args:
        program: what runs.
        objects: where they are made.
        transport: hears of every weight that was made.
        signals: hears of every Alloc.

    Attributes:
        made_ns: when each Alloc was carried out, host ns, by id.
    """

    def __init__(
        self,
        program: Program,
        objects: DeviceObjects,
        transport: WeightTransport,
        signals: Signals,
    ) -> None:
        self.made_ns: dict[int, int] = {}
        self._specs = program.objects
        self._objects = objects
        self._transport = transport
        self._signals = signals
        self._put_off: deque[Alloc] = deque()
        self._weight_of = {upload.id: upload.weight for upload in program.transfer}
        self._made_with = made_with(program)
        self._order = {name: at for at, name in enumerate(weights_as_made(program))}

    def add(self, command: Alloc) -> None:
        """Makes an activation; a weight is made when its turn comes and it has room."""
        if command.object in self._order:
            self._put_off.append(command)
            self.make_what_fits()
        else:
            self._objects.create(self._specs[command.object])
            self._done(command)

    def make_what_fits(self) -> None:
        """Makes the weights that are next and have room now."""
        while self._put_off and self._objects.try_create(self._specs[self._put_off[0].object]):
            self._weight_made(self._put_off.popleft())

    def make_for(self, upload: int) -> None:
        """Makes all that must be there before `upload` can happen, waiting for room."""
        count = self._made_with.get(self._weight_of.get(upload, ""), 0)
        while self._put_off and self._order[self._put_off[0].object] < count:
            command = self._put_off.popleft()
            self._objects.create(self._specs[command.object])
            self._weight_made(command)

    def _weight_made(self, command: Alloc) -> None:
        with translating(f"mapping {command.object!r}"):
            self._transport.created(command.object)
        self._done(command)

    def _done(self, command: Alloc) -> None:
        self.made_ns[command.id] = perf_counter_ns()
        self._signals.publish(command.id)
