"""Places for activations in one buffer, so that ending one asks nothing of the host.

Kernels of one queue run in order: what the next layer writes where the last one's input lay comes
after it by itself. So with all activations in one buffer, made once, the host makes, frees and
waits for nothing while layers run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, Program


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each activation lies.

    Attributes:
        bytes: of the whole.
        offsets: of each activation, by name.
    """

    bytes: int
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when an object is held.

    Attributes:
        name, bytes: of the object.
        begin, end: places of its Alloc and its Free in the memory order.
    """

    name: str
    bytes: int
    begin: int
    end: int


def arena_of(program: Program, alignment: int) -> Arena:
    """Places for the activations of `program`: those that are held at one time do not overlap.

    The largest find theirs first, or those that end last: whichever takes less in all.

    Args:
        program: sound.
        alignment: of every place, bytes.
    """
    lives = lives_of(program, Pool.BUFFER)
    orders = (lambda one: (-one.bytes, one.begin)), (lambda one: (-one.end, -one.bytes))
    tried = (_place(sorted(lives, key=order), alignment) for order in orders)
    return min(tried, key=lambda arena: arena.bytes)


def fits(arena: Arena, program: Program) -> bool:
    """Whether the whole arena can be there throughout.

    Then each layer can have its weights beside it and the staging ring within
    program.predicted_peak_bytes, if weights that are loaded ahead come later than planned.
    """
    room = program.predicted_peak_bytes - program.staging_bytes - arena.bytes
    return bool(arena.offsets) and _most_needed(program) <= room


def lives_of(program: Program, pool: Pool) -> list[Life]:
    """Lives of the objects of a pool that are freed, in the order of their Frees."""
    begins: dict[str, int] = {}
    lives = []
    for at, command in enumerate(program.memory):
        item = program.objects[command.object]
        if item.pool is not pool:
            continue
        if isinstance(command, Alloc):
            begins[item.name] = at
        else:
            lives.append(Life(item.name, item.bytes, begins[item.name], at))
    return lives


def _place(lives: list[Life], alignment: int) -> Arena:
    """In their order, each at the lowest place that is free for as long as it lives."""
    placed: list[tuple[int, Life]] = []
    whole = 0
    for life in lives:
        beside = sorted(
            (offset, other.bytes)
            for offset, other in placed
            if other.begin < life.end and life.begin < other.end
        )
        lowest = 0
        for offset, size in beside:
            if lowest + life.bytes <= offset:
                break
            lowest = max(lowest, -(-(offset + size) // alignment) * alignment)
        placed.append((lowest, life))
        whole = max(whole, lowest + life.bytes)
    return Arena(whole, {life.name: offset for offset, life in placed})


def made_with(program: Program) -> dict[str, int]:
    """How many weights, in the order of their Allocs, are made once a weight can be read.

    Weights are made in that order and read in the order of the disk lane: a weight can be read
    when it, those that are read before it and those that are made before any of these are made.
    """
    order = {name: at for at, name in enumerate(weights_as_made(program))}
    counts: dict[str, int] = {}
    count = 0
    for name in dict.fromkeys(read.weight for read in program.disk):
        count = max(count, order[name] + 1)
        counts[name] = count
    return counts


def weights_as_made(program: Program) -> list[str]:
    """Names of the weights in the order of their Allocs."""
    allocs = (command for command in program.memory if isinstance(command, Alloc))
    return [one.object for one in allocs if program.objects[one.object].pool is Pool.TEXTURE]


def needed_weights(program: Program) -> list[int]:
    """How many weights, in the order of their Allocs, each command of the compute lane needs made.

    The commands before it need no more than it does.
    """
    counts = made_with(program)
    weight_of = {upload.id: upload.weight for upload in program.transfer}
    needs = (
        max((counts[weight_of[one]] for one in step.after if one in weight_of), default=0)
        for step in program.compute
    )
    return list(accumulate(needs, max))


def _most_needed(program: Program) -> int:
    """Most bytes of weights that have to be there at one time, if none is loaded ahead."""
    weights = weights_as_made(program)
    place = {command.id: at for at, command in enumerate(program.compute)}
    ends: dict[int, int] = defaultdict(int)  # bytes of the weights that a command uses last
    for command in program.memory:
        item = program.objects[command.object]
        if not isinstance(command, Alloc) and item.pool is Pool.TEXTURE:
            ends[max(place[one] for one in command.after)] += item.bytes
    sizes = [program.objects[name].bytes for name in weights]
    made = sum(isinstance(c, Alloc) and c.once for c in program.memory)  # they come first
    held = most = sum(sizes[:made])
    for at, needed in enumerate(needed_weights(program)):
        held += sum(sizes[made:needed])
        made, most = max(made, needed), max(most, held)
        held -= ends[at]
    return most
