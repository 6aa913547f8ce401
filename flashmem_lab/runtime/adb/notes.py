"""What an agent's commands did, in the words of the program: the agent itself tells only times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from flashmem_lab.lower.layer import HostCall, RowFetch, View
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.program.program import (
    ComputeCommand,
    HostStep,
    Launch,
    Move,
    Program,
    WriteInput,
)
from flashmem_lab.program.sources import dtype_of
from flashmem_lab.runtime.adb.session import Ran
from flashmem_lab.runtime.notes import Note, events_of
from flashmem_lab.runtime.tables import Tables


def view_bytes(view: View) -> int:
    """Bytes of the array that a view is."""
    return view.size * dtype_of(view.dtype).itemsize


def events_of_run(program: Program, tables: Tables, ran: Ran, number: int) -> tuple[Event, ...]:
    """Every event of a run, from its start on.

    Args:
        program: what ran.
        tables: of it.
        ran: what the agent noted.
        number: of the run, 0 for the cold one.
    """
    notes = [*_moved(program, tables, ran), *_computed(program, ran)]
    events = events_of(notes, ran.spans, tables, origin_ns=ran.start_ns, run=number)
    return tuple(events)


def _moved(program: Program, tables: Tables, ran: Ran) -> Iterator[Note]:
    lanes = ((Lane.DISK, "read", program.disk), (Lane.TRANSFER, "upload", program.transfer))
    for lane, kind, commands in lanes:
        for one in commands:
            if one.id in ran.spans:
                layer = tables.first_use.get(one.weight, -1)
                queued = ran.queued_ns.get(one.id, -1)
                yield Note(
                    one.id, lane, kind, one.weight, layer, one.weight, one.bytes, queued_ns=queued
                )


def _computed(program: Program, ran: Ran) -> Iterator[Note]:
    sizes = {upload.id: upload.bytes for upload in program.transfer if upload.id in ran.spans}
    for one in program.compute:
        if one.id not in ran.spans:
            continue
        kind, size = _kind(program, one, sizes)
        yield Note(
            one.id,
            Lane.COMPUTE,
            kind,
            one.name,
            one.layer,
            one.name if kind == "upload" else "",
            size,
            queued_ns=ran.queued_ns.get(one.id, -1),
        )


def _kind(program: Program, command: ComputeCommand, sizes: Mapping[int, int]) -> tuple[str, int]:
    """Kind of event, and the bytes that it moved."""
    if isinstance(command, Launch | Move):
        kind = "launch" if isinstance(command, Launch) else "upload"
        return kind, sum(sizes.get(upload, 0) for upload in command.carries)
    if isinstance(command, HostStep):
        return _host_kind(program, command.work)
    kind = "write-input" if isinstance(command, WriteInput) else "read-output"
    return kind, view_bytes(command.view)


def _host_kind(program: Program, work: HostCall | RowFetch) -> tuple[str, int]:
    if isinstance(work, RowFetch):
        index = next(port for port in program.inputs if port.name == work.index)
        return "rows", prod(index.shape) * program.spans[work.table].row_bytes
    views = (*work.inputs, *work.outputs)
    weights = (program.spans[weight].bytes for _, weight, _, _ in work.weights)
    return "host", sum(view_bytes(view) for _, view in views) + sum(weights)
