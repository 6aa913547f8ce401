"""One buffer for everything that a program holds: a place for each weight and activation.

Where the device's driver takes long to give memory and to take it back (NVIDIA's: 0.1 to 0.3 ms an
image), and waits for the device to do so, a run that streams should do neither. All sizes and lives
are in the program, so the places are found beforehand. A weight has its place until its last use;
then the next one that has a place there is copied over it, once the device has got that far, which
queues tell each other by events. The host waits for nothing.

Places are not pages: what is free may lie in pieces. So weights get theirs in the order in which
they are made, each where it can come soonest. Prefetching ahead of the plan is then bound by
what is free on the device, and no longer by when the plan would make the weight.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.arena import Life, arena_of, lives_of, needed_weights, weights_as_made


@dataclass(frozen=True, slots=True)
class Places:
    """Where each object lies, for as long as it lives.

    Attributes:
        bytes: of the whole; at most program.predicted_peak_bytes without staging.
        weight_bytes: below these lie no activations.
        offsets: of each object, by name.
        behind: for a weight, the object that has to end before it is written: of those that had
            some of its place in the same run before, the one that ends last.
        lasting: the activations that no weight is behind.
    """

    bytes: int
    weight_bytes: int
    offsets: Mapping[str, int]
    behind: Mapping[str, str]
    lasting: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Held:
    """A part of the buffer and who has it last, so far.

    Attributes:
        begin, end: bytes.
        until: place in the memory order at which that one ends; -1 if it was never held.
        name: of that one; empty if there is none.
    """

    begin: int
    end: int
    until: int
    name: str


def places_of(program: Program, alignment: int) -> Places | None:
    """Places for all objects of `program`; None where they would not do within its own peak.

    Args:
        program: sound.
        alignment: of every place, bytes.
    """
    room = (program.predicted_peak_bytes - program.staging_bytes) // alignment * alignment
    once = {c.object for c in program.memory if isinstance(c, Alloc) and c.once}
    weights = weights_as_made(program)
    offsets: dict[str, int] = {}
    pinned = 0
    for name in weights:
        if name in once:
            offsets[name] = pinned
            pinned = _up(pinned + program.objects[name].bytes, alignment)
    arena = arena_of(program, alignment)
    activations = lives_of(program, Pool.BUFFER)
    for life in activations:  # from the top down
        offsets[life.name] = room - _up(arena.offsets[life.name] + life.bytes, alignment)
    lowest = min((offsets[life.name] for life in activations), default=room)
    if lowest < pinned:
        return None
    lying = [(offsets[life.name], life) for life in activations]
    streamed = _Streamed(pinned, room, lying, alignment)
    lives = {life.name: life for life in lives_of(program, Pool.TEXTURE)}
    forced = forced_at(program)
    if not all(streamed.place(lives[name], forced[name]) for name in weights if name not in once):
        return None
    lasting = {life.name for life in activations}.difference(streamed.behind.values())
    return Places(room, lowest, offsets | streamed.offsets, streamed.behind, frozenset(lasting))


class _Streamed:
    """Finds the places of streamed weights, one after the other.

    Args:
        begin, end: what they may use of the buffer.
        activations: where these lie, and when.
        alignment: of every place, bytes.
    """

    def __init__(
        self, begin: int, end: int, activations: Sequence[tuple[int, Life]], alignment: int
    ) -> None:
        self.offsets: dict[str, int] = {}
        self.behind: dict[str, str] = {}
        self._begin, self._end = begin, end
        self._alignment = alignment
        self._held = [_Held(begin, end, -1, "")]
        self._activations = activations
        self._latest = -1  # the weights so far wait for the end of this one

    def place(self, life: Life, forced: int) -> bool:
        """Finds the place where a weight can come soonest, the lowest of these; whether it did.

        Args:
            life: of the weight. What counts is its end: when it comes is found here.
            forced: place in the memory order before which it must come.
        """
        before = [  # a later one is written when this weight is over
            _Held(offset, offset + other.bytes, other.end, other.name)
            for offset, other in self._activations
            if other.begin < life.end
        ]
        near = [held for held in before if held.until > self._latest]  # the others cost no time
        soonest = min(
            (
                (last.until, offset)
                for offset in self._candidates(life.bytes, near)
                if (last := self._last(offset, life.bytes, near)).until < forced
            ),
            default=None,
        )
        if soonest is None:
            return False
        offset = soonest[1]
        last = self._last(offset, life.bytes, before)
        self._latest = max(self._latest, last.until)
        self.offsets[life.name] = offset
        if last.name:
            self.behind[life.name] = last.name
        self._take(_Held(offset, offset + life.bytes, life.end, life.name))
        return True

    def _candidates(self, size: int, near: Sequence[_Held]) -> set[int]:
        """Offsets right behind or right before something that is held."""
        edges = {edge for held in (*self._held, *near) for edge in (held.begin, held.end)}
        found = {_up(edge, self._alignment) for edge in edges}
        found |= {_up(edge - size - self._alignment + 1, self._alignment) for edge in edges}
        return {at for at in found if self._begin <= at <= self._end - size}

    def _last(self, offset: int, size: int, activations: Sequence[_Held]) -> _Held:
        """The one that ends last of all that hold some of these bytes."""
        end = offset + size
        at = bisect_right(self._held, offset, key=attrgetter("begin")) - 1
        last = self._held[at]
        while at < len(self._held) and self._held[at].begin < end:
            last = max(last, self._held[at], key=_until)
            at += 1
        over = (held for held in activations if held.begin < end and offset < held.end)
        return max(chain((last,), over), key=_until)

    def _take(self, new: _Held) -> None:
        """Parts of the buffer change hands."""
        held = [new]
        for old in self._held:
            if old.begin < min(old.end, new.begin):
                held.append(replace(old, end=min(old.end, new.begin)))
            if old.end > max(old.begin, new.end):
                held.append(replace(old, begin=max(old.begin, new.end)))
        self._held = sorted(held, key=attrgetter("begin"))


_until = attrgetter("until")


def forced_at(program: Program) -> dict[str, int]:
    """Places in the memory order before which streamed weights must come, by name.

    The Free of what a command uses makes sure that the command was enqueued, hence that all weights
    were made that it needs.
    """
    order, needed = weights_as_made(program), needed_weights(program)
    place = {command.id: at for at, command in enumerate(program.compute)}
    forced = dict.fromkeys(order, len(program.memory))
    made = 0
    for at, command in enumerate(program.memory):
        if not isinstance(command, Alloc):
            most = needed[max(place[one] for one in command.after)]
            forced |= dict.fromkeys(order[made:most], at)
            made = max(made, most)
    return forced


def _up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
