"""What a run did, noted while it runs and turned into events when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import perf_counter_ns
from typing import NamedTuple

import pyopencl as cl

from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.runtime.notes import Note, events_of
from flashmem_lab.runtime.opencl.clock import DeviceClock
from flashmem_lab.runtime.opencl.stretched import OneByOne, Replayed
from flashmem_lab.runtime.tables import Tables


class _Timed(NamedTuple):
    """A note with its times: on the host until end_ns, or on the device (`event`) since then."""

    note: Note
    start_ns: int
    end_ns: int
    event: cl.Event | None


class Recorder:
    """Notes of one run; both threads add to them, the end of the run reads them.

    Args:
        tables: of the program that runs.
        run: its number.
    """

    def __init__(self, tables: Tables, run: int) -> None:
        self._run = run
        self._timed: list[_Timed | OneByOne | Replayed] = []
        self._tables = tables

    def moved(
        self,
        command: int,
        lane: Lane,
        kind: str,
        weight: str,
        size: int,
        start_ns: int,
        event: cl.Event | None = None,
    ) -> None:
        """Notes a read or an upload that began at `start_ns` and ends now, or with `event`."""
        layer = self._tables.first_use.get(weight, -1)
        now = perf_counter_ns()
        queued_ns = now if event is not None else -1
        note = Note(command, lane, kind, weight, layer, weight, size, queued_ns)
        self._timed.append(_Timed(note, start_ns, now, event))

    def computed(
        self,
        command: int,
        kind: str,
        name: str,
        layer: int,
        size: int,
        start_ns: int,
        event: cl.Event | None = None,
    ) -> None:
        """Notes work of the compute lane that began at `start_ns` and ends now, or with `event`."""
        now = perf_counter_ns()
        weight = name if kind == "upload" else ""
        queued_ns = now if event is not None else -1
        note = Note(command, Lane.COMPUTE, kind, name, layer, weight, size, queued_ns)
        self._timed.append(_Timed(note, start_ns, now, event))

    def stretched(self, stretch: OneByOne | Replayed) -> None:
        """Notes a stretch; what becomes of it is put together when the run is over."""
        self._timed.append(stretch)

    def spans(self, clock: DeviceClock, end_ns: int) -> dict[int, tuple[int, int]]:
        """Start and end of every command of the run, which is over, host ns.

        Launches that were replayed have the start and the end of their stretch.
        """
        found: dict[int, tuple[int, int]] = {}
        for timed in self._timed:
            if isinstance(timed, OneByOne):
                for command, begun_ns, event in zip(
                    timed.stretch.launches, timed.moments_ns, timed.events, strict=False
                ):
                    found[command.id] = clock.span(event, begun_ns, end_ns)
            elif isinstance(timed, Replayed):
                _, reached_ns = clock.span(timed.before, timed.begun_ns, end_ns)
                _, over_ns = clock.span(timed.event, reached_ns, end_ns)
                span = reached_ns, over_ns
                found.update(dict.fromkeys((one.id for one in timed.stretch.launches), span))
            elif timed.event is None:
                found[timed.note.command] = timed.start_ns, timed.end_ns
            else:
                found[timed.note.command] = clock.span(timed.event, timed.start_ns, end_ns)
        return found

    def events(self, spans: Mapping[int, tuple[int, int]], origin_ns: int) -> list[Event]:
        """Every event of the finished run, by start, with the stalls of the compute lane."""
        notes = [note for timed in self._timed for note in _notes(timed)]
        return events_of(notes, spans, self._tables, origin_ns=origin_ns, run=self._run)


def _notes(timed: _Timed | OneByOne | Replayed) -> Iterable[Note]:
    if isinstance(timed, OneByOne):
        for command, queued_ns in zip(timed.stretch.launches, timed.moments_ns[1:], strict=True):
            layer, name = command.layer, command.name
            yield Note(command.id, Lane.COMPUTE, "launch", name, layer, "", 0, queued_ns)
    elif isinstance(timed, Replayed):
        # Of no single layer; the device may begin before the host is done handing it over.
        stretch = timed.stretch
        yield Note(stretch.id, Lane.COMPUTE, "replay", stretch.name, -1, "", 0, timed.end_ns)
    else:
        yield timed.note
