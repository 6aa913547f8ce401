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
    """A command with its times: on the host until end_ns, or on the device (`event`) since then.

    It becomes a note when the run is over: of all that is done for a command, this is kept waiting.
    """

    command: int
    lane: Lane
    kind: str
    name: str
    layer: int
    weight: str
    bytes: int
    start_ns: int
    end_ns: int
    event: cl.Event | None


class _Loaded(NamedTuple):
    """A weight that was read to where the device uses it: its last upload took nothing."""

    read: int
    upload: int
    weight: str
    bytes: int
    start_ns: int
    end_ns: int


class Recorder:
    """Notes of one run; both threads add to them, the end of the run reads them.

    Args:
        tables: of the program that runs.
        run: its number.
    """

    def __init__(self, tables: Tables, run: int) -> None:
        self._run = run
        self._timed: list[_Timed | _Loaded | OneByOne | Replayed] = []
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
        layer, now = self._tables.first_use.get(weight, -1), perf_counter_ns()
        self._timed.append(
            _Timed(command, lane, kind, weight, layer, weight, size, start_ns, now, event)
        )

    def loaded(self, read: int, upload: int, weight: str, size: int, start_ns: int) -> None:
        """Notes that a weight was read from `start_ns` until now, and is the device's by that.

        Args:
            read: id of its first Read.
            upload: id of its last Upload.
            weight: which.
            size: its bytes.
            start_ns: host time.
        """
        self._timed.append(_Loaded(read, upload, weight, size, start_ns, perf_counter_ns()))

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
        now, weight = perf_counter_ns(), name if kind == "upload" else ""
        self._timed.append(
            _Timed(command, Lane.COMPUTE, kind, name, layer, weight, size, start_ns, now, event)
        )

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
            elif isinstance(timed, _Loaded):
                found[timed.read] = timed.start_ns, timed.end_ns
                found[timed.upload] = timed.end_ns, timed.end_ns
            elif timed.event is None:
                found[timed.command] = timed.start_ns, timed.end_ns
            else:
                found[timed.command] = clock.span(timed.event, timed.start_ns, end_ns)
        return found

    def events(self, spans: Mapping[int, tuple[int, int]], origin_ns: int) -> list[Event]:
        """Every event of the finished run, by start, with the stalls of the compute lane."""
        notes = [note for timed in self._timed for note in self._notes(timed)]
        return events_of(notes, spans, self._tables, origin_ns=origin_ns, run=self._run)

    def _notes(self, timed: _Timed | _Loaded | OneByOne | Replayed) -> Iterable[Note]:
        if isinstance(timed, OneByOne):
            for command, queued_ns in zip(
                timed.stretch.launches, timed.moments_ns[1:], strict=True
            ):
                layer, name = command.layer, command.name
                yield Note(command.id, Lane.COMPUTE, "launch", name, layer, "", 0, queued_ns)
        elif isinstance(timed, Replayed):
            # Of no single layer; the device may begin before the host is done handing it over.
            stretch = timed.stretch
            yield Note(stretch.id, Lane.COMPUTE, "replay", stretch.name, -1, "", 0, timed.end_ns)
        elif isinstance(timed, _Loaded):
            weight, size = timed.weight, timed.bytes
            layer = self._tables.first_use.get(weight, -1)
            yield Note(timed.read, Lane.DISK, "read", weight, layer, weight, size)
            yield Note(timed.upload, Lane.TRANSFER, "upload", weight, layer, weight, size)
        else:
            queued_ns = timed.end_ns if timed.event is not None else -1
            yield Note(*timed[:7], queued_ns)
