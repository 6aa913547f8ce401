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

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter, itemgetter

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
        behind: for a weight, the object that has to end before it is written. Whatever had some of
            its place in the same run before ends no later, in the memory order.
        lasting: the activations in whose places no weight ever lies.
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
        since, until: places in the memory order from which and to which that one lives; -1 if the
            part was never held.
        name: of that one; empty if there is none.
    """

    begin: int
    end: int
    since: int = -1
    until: int = -1
    name: str = ""


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
    activations = []
    for life in lives_of(program, Pool.BUFFER):  # from the top down
        begin = room - _up(arena.offsets[life.name] + life.bytes, alignment)
        activations.append(_Held(begin, begin + life.bytes, life.begin, life.end, life.name))
    offsets |= {held.name: held.begin for held in activations}
    lowest = min((held.begin for held in activations), default=room)
    if lowest < pinned:
        return None
    streamed = _Streamed(pinned, room, activations, alignment)
    lives = {life.name: life for life in lives_of(program, Pool.TEXTURE)}
    forced = forced_at(program)
    if not all(streamed.place(lives[name], forced[name]) for name in weights if name not in once):
        return None
    lasting = frozenset(held.name for held in activations if not streamed.touches(held))
    return Places(room, lowest, offsets | streamed.offsets, streamed.behind, lasting)


class _Streamed:
    """Finds the places of streamed weights, one after the other.

    Args:
        begin, end: what they may use of the buffer.
        activations: where these lie, and when.
        alignment: of every place, bytes.
    """

    def __init__(self, begin: int, end: int, activations: Iterable[_Held], alignment: int) -> None:
        self.offsets: dict[str, int] = {}
        self.behind: dict[str, str] = {}
        self._begin, self._end = begin, end
        self._alignment = alignment
        self._held = [_Held(begin, end)]
        # Weights are copied in this order, so each waits for what those before it waited for.
        self._latest = _Held(begin, begin)
        self._later = sorted(activations, key=_since)  # those that end behind `_latest`

    def place(self, life: Life, forced: int) -> bool:
        """Finds the place where a weight can come soonest, the lowest of these; whether it did.

        Args:
            life: of the weight. What counts is its end: when it comes is found here.
            forced: place in the memory order before which it must come.
        """
        # Activations that begin when this weight is over are written behind it.
        near = self._later[: bisect_left(self._later, life.end, key=_since)]
        soonest = min(
            (
                (last.until, offset, last)
                for offset in self._candidates(life.bytes, near)
                if (last := self._last(offset, life.bytes, near)).until < forced
            ),
            key=itemgetter(0, 1),
            default=None,
        )
        if soonest is None:
            return False
        _, offset, last = soonest
        if last.until > self._latest.until:
            self._latest = last
            self._later = [held for held in self._later if held.until > last.until]
        self.offsets[life.name] = offset
        if self._latest.name:
            self.behind[life.name] = self._latest.name
        self._take(_Held(offset, offset + life.bytes, life.begin, life.end, life.name))
        return True

    def touches(self, other: _Held) -> bool:
        """Whether some weight lies where `other` does."""
        first, last = self._at(other.begin), bisect_left(self._held, other.end, key=_begin)
        return any(held.name for held in self._held[first:last])

    def _candidates(self, size: int, near: Sequence[_Held]) -> set[int]:
        """Offsets right behind or right before something that is held."""
        edges = {edge for held in (*self._held, *near) for edge in (held.begin, held.end)}
        found = {_up(edge, self._alignment) for edge in edges}
        found |= {_up(edge - size - self._alignment + 1, self._alignment) for edge in edges}
        return {at for at in found if self._begin <= at <= self._end - size}

    def _last(self, offset: int, size: int, activations: Sequence[_Held]) -> _Held:
        """The one that ends last of all that hold some of these bytes."""
        end = offset + size
        weights = self._held[self._at(offset) : bisect_left(self._held, end, key=_begin)]
        over = (held for held in activations if held.begin < end and offset < held.end)
        return max(chain(weights, over), key=_until)

    def _at(self, offset: int) -> int:
        """Which of the parts that weights have holds a byte."""
        return bisect_right(self._held, offset, key=_begin) - 1

    def _take(self, new: _Held) -> None:
        """Parts of the buffer change hands."""
        first, last = self._at(new.begin), bisect_left(self._held, new.end, key=_begin)
        before, behind = self._held[first], self._held[last - 1]
        parts = [replace(before, end=new.begin), new, replace(behind, begin=new.end)]
        self._held[first:last] = [part for part in parts if part.begin < part.end]


_begin, _since, _until = attrgetter("begin"), attrgetter("since"), attrgetter("until")


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
            most = max((needed[place[one]] for one in command.after if one in place), default=0)
            forced |= dict.fromkeys(order[made:most], at)
            made = max(made, most)
    return forced


def _up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
