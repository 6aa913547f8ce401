"""Notes of what commands did in a run, and the events that they make when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.runtime.tables import Tables

Spans = Mapping[int, tuple[int, int]]
"""Start and end of commands by id, ns on a clock that all of them share."""


class Note(NamedTuple):
    """A command that occupied a lane; the fields are those of its `Event`.

    A tuple: one is made for each command while the run goes on.

    Attributes:
        command: its id.
        queued_ns: when the device was given it, on the clock of the spans; -1 for the host's work.
    """

    command: int
    lane: Lane
    kind: str
    name: str
    layer: int
    weight: str
    bytes: int
    queued_ns: int = -1


def events_of(
    notes: Sequence[Note], spans: Spans, tables: Tables, *, origin_ns: int, run: int
) -> list[Event]:
    """Every event of a finished run, by start, with the stalls of the compute lane.

    Args:
        notes: those of the compute lane in its order.
        spans: of every command that has a note.
        tables: of the program.
        origin_ns: start of the run, on the clock of the spans.
        run: its number.
    """
    events = [
        Event(
            lane=note.lane,
            kind=note.kind,
            name=note.name,
            layer=note.layer,
            weight=note.weight,
            start_ns=spans[note.command][0] - origin_ns,
            end_ns=spans[note.command][1] - origin_ns,
            bytes=note.bytes,
            run=run,
            queued_ns=note.queued_ns - origin_ns if note.queued_ns >= 0 else -1,
        )
        for note in notes
    ]
    events += _stalls(notes, spans, tables, origin_ns, run)
    return sorted(events, key=lambda event: (event.start_ns, event.end_ns))


def _stalls(
    notes: Sequence[Note], spans: Spans, tables: Tables, origin_ns: int, run: int
) -> list[Event]:
    """Where a layer could have started, its weights were not there: until they were."""
    stalls = []
    free_ns = origin_ns
    for note in notes:
        if note.lane is not Lane.COMPUTE:
            continue
        start_ns, end_ns = spans[note.command]
        after, weight_of = tables.after[note.command], tables.weight_of
        awaited = [one for one in after if one in weight_of and one in spans]
        last = max(awaited, key=lambda i: spans[i][1], default=None)
        ready_ns = min(spans[last][1], start_ns) if last is not None else 0
        if ready_ns > free_ns:
            stalls.append(
                Event(
                    lane=Lane.COMPUTE,
                    kind="stall",
                    name=note.name,
                    layer=note.layer,
                    weight=weight_of[last] if last is not None else "",
                    start_ns=free_ns - origin_ns,
                    end_ns=ready_ns - origin_ns,
                    bytes=0,
                    run=run,
                )
            )
        free_ns = max(free_ns, end_ns)
    return stalls
