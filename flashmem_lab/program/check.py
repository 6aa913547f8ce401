"""Checks a Program from whatever source: what holds here, no timing can break.

Shares no code with the builder. Every program read from a bundle passes through it, so that a
runtime may trust indices, sizes and the order of things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain, pairwise

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.check_carries import carriers_of, check_carries
from flashmem_lab.program.check_objects import (
    check_commands,
    check_objects,
    check_ports,
    check_spans,
    refuse,
    touched,
)
from flashmem_lab.program.program import (
    Alloc,
    ComputeCommand,
    Free,
    MemoryCommand,
    Program,
    Read,
    Upload,
)


def check_program(program: Program) -> None:
    """Verifies structure, order and budget of a program; thousands of commands take milliseconds.

    Guarantees: objects and views lie within their bounds; ids are unique and what is waited for
    exists; the lanes cannot block each other, cold or warm; every weight is read, checksummed
    and uploaded whole before it is used; objects live from before their first use until after
    their last; what the device holds never exceeds the budget and peaks as predicted.

    Raises:
        PlanError: the first rule that is broken.
    """
    check_objects(program)
    check_spans(program)
    check_commands(program)
    check_ports(program)
    _check_ids(program)
    _check_disk(program)
    _check_transfer(program)
    check_carries(program)
    _check_lives(program)
    _check_peak(program)
    _check_order(program, warm=False)
    _check_order(program, warm=True)


Command = MemoryCommand | Read | Upload | ComputeCommand


def _lanes(program: Program) -> tuple[Sequence[Command], ...]:
    return (program.memory, program.disk, program.transfer, program.compute)


def _after(command: Command) -> tuple[int, ...]:
    return () if isinstance(command, Alloc) else command.after


def _check_ids(program: Program) -> None:
    commands = list(chain(*_lanes(program)))
    ids = {command.id for command in commands}
    if len(ids) != len(commands):
        refuse("two commands have the same id")
    if any(command.object not in program.objects for command in program.memory):
        refuse("an object is made or freed that does not exist")
    if not all(ids.issuperset(_after(command)) for command in commands):
        refuse("a command waits for one that does not exist")


# --- bytes on their way --------------------------------------------------------------------


def _check_disk(program: Program) -> None:
    """Each device weight is read once, whole, in blocks that have a checksum, after its Alloc."""
    allocs = {c.object: c for c in program.memory if isinstance(c, Alloc)}
    next_row: dict[str, int] = {}
    next_chunk: dict[str, int] = {}
    for read in program.disk:
        name, span, alloc = read.weight, program.spans.get(read.weight), allocs.get(read.weight)
        if span is None or alloc is None or program.objects[name].pool is not Pool.TEXTURE:
            refuse(f"{name!r} is read but is no weight of the device")
        if read.first_row != next_row.get(name, 0) or read.chunk != next_chunk.get(name, 0):
            refuse(f"the chunks of {name!r} do not follow each other")
        if read.rows < 1 or read.first_row % span.block_rows:
            refuse(f"a chunk of {name!r} does not begin with a block")
        if read.bytes != read.rows * span.row_bytes:
            refuse(f"a chunk of {name!r} has other bytes than its rows")
        if read.once != alloc.once or alloc.id not in read.after:
            refuse(f"{name!r} is read without waiting for its object")
        if program.transport is not Transport.MAP and read.bytes > program.slot_bytes:
            refuse(f"a chunk of {name!r} does not fit a staging slot")
        next_row[name] = read.first_row + read.rows
        next_chunk[name] = read.chunk + 1
    for name, item in program.objects.items():
        if item.pool is not Pool.TEXTURE:
            continue
        span = program.spans[name]
        if next_row.get(name) != span.bytes // span.row_bytes:
            refuse(f"{name!r} is not read to its end")


def _check_transfer(program: Program) -> None:
    """An upload for each read, in the same order; for `map` one for each weight."""
    if program.transport is not Transport.MAP:
        if len(program.disk) != len(program.transfer):
            refuse("reads and uploads are not as many")
        for read, upload in zip(program.disk, program.transfer, strict=True):
            moved = (upload.weight, upload.chunk, upload.first_row, upload.rows, upload.bytes)
            if moved != (read.weight, read.chunk, read.first_row, read.rows, read.bytes):
                refuse(f"an upload of {upload.weight!r} does not match the read in its place")
            if read.id not in upload.after or upload.once != read.once:
                refuse(f"an upload of {upload.weight!r} does not wait for its read")
        return
    reads: dict[str, set[int]] = {}
    once: dict[str, bool] = {}
    for read in program.disk:
        reads.setdefault(read.weight, set()).add(read.id)
        once[read.weight] = read.once
    if sorted(upload.weight for upload in program.transfer) != sorted(reads):
        refuse("not every weight is unmapped exactly once")
    for upload in program.transfer:
        span = program.spans[upload.weight]
        whole = (0, span.bytes // span.row_bytes, span.bytes)
        if (upload.first_row, upload.rows, upload.bytes) != whole:
            refuse(f"{upload.weight!r} is not unmapped whole")
        if not reads[upload.weight].issubset(upload.after) or upload.once != once[upload.weight]:
            refuse(f"{upload.weight!r} is unmapped before it is read")


# --- lives of objects ----------------------------------------------------------------------


def _check_lives(program: Program) -> None:
    """Each object is made once, waited for by its users, and freed once behind the last of them.

    The lanes run in order, so a command also has what those before it in its lane waited for.
    """
    made: dict[str, Alloc] = {}
    freed: dict[str, Free] = {}
    for command in program.memory:
        if isinstance(command, Alloc):
            if command.object in made:
                refuse(f"{command.object!r} is made twice")
            made[command.object] = command
        else:
            if command.object not in made or command.object in freed:
                refuse(f"{command.object!r} is freed without having been made")
            freed[command.object] = command
    if made.keys() != program.objects.keys():
        refuse("not every object is made")
    uploads: dict[str, set[int]] = {}
    for upload in program.transfer:
        uploads.setdefault(upload.weight, set()).add(upload.id)
    last_use = _check_uses(program, made, uploads)
    order = {step.id: at for at, step in enumerate(program.compute)}
    for name, alloc in made.items():
        if alloc.once:
            if name in freed:
                refuse(f"{name!r} is to be kept, and freed")
            continue
        if name not in freed:
            refuse(f"{name!r} is never freed")
        behind = max((order[one] for one in freed[name].after if one in order), default=-1)
        if behind < last_use.get(name, -1):
            refuse(f"{name!r} is freed while it may be in use")
        if name in uploads and name not in last_use:
            refuse(f"{name!r} is loaded and never used")


def _check_uses(
    program: Program, made: Mapping[str, Alloc], uploads: Mapping[str, set[int]]
) -> dict[str, int]:
    """Each compute command waits for what it uses; returns the place of each object's last use."""
    place = {command.id: at for at, command in enumerate(program.memory)}
    waited: set[int] = set()
    newest = -1  # place of the newest memory command waited for
    last_use: dict[str, int] = {}
    for at, step in enumerate(program.compute):
        waited.update(step.after)
        newest = max([newest, *(place[one] for one in step.after if one in place)])
        for name in touched(step):
            last_use[name] = at
            if name in uploads:
                if not uploads[name] <= waited:
                    refuse(f"{step.name!r} uses {name!r} before it is on the device")
            elif place[made[name].id] > newest:
                refuse(f"{step.name!r} uses {name!r} before it is made")
    return last_use


def _check_peak(program: Program) -> None:
    """What is kept comes first, so that a warm run holds the same bytes at every step."""
    held = peak = program.staging_bytes
    for before, command in pairwise([None, *program.memory]):
        size = program.objects[command.object].bytes if command is not None else 0
        if isinstance(command, Alloc):
            if command.once and not (before is None or (isinstance(before, Alloc) and before.once)):
                refuse(f"{command.object!r} is to be kept but is not made at the start")
            held += size
            peak = max(peak, held)
        else:
            held -= size
    if peak != program.predicted_peak_bytes:
        refuse(f"it peaks at {peak} bytes, not at the {program.predicted_peak_bytes} it states")
    if peak > program.budget_bytes:
        refuse(f"it peaks at {peak} bytes, above its budget of {program.budget_bytes}")


# --- order ---------------------------------------------------------------------------------


def _check_order(program: Program, *, warm: bool) -> None:
    """No lane waits, through any other, for itself. A warm run leaves out what is done once."""
    lanes = [
        [c for c in lane if not (warm and getattr(c, "once", False))] for lane in _lanes(program)
    ]
    graph: dict[int, list[int]] = {c.id: list(_after(c)) for lane in lanes for c in lane}
    for lane in lanes:
        for before, command in pairwise(lane):
            graph[command.id].append(before.id)
    if program.transport is not Transport.MAP and program.slot_bytes:
        slots = program.staging_bytes // program.slot_bytes
        _, disk, transfer, _ = lanes
        carriers = carriers_of(program)
        for read, upload in zip(disk[slots:], transfer, strict=False):
            graph[read.id].append(carriers.get(upload.id, upload.id))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        refuse("its lanes wait for each other, so it would never end")
