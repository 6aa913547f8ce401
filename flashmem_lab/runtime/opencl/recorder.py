"""What a run did, noted while it runs and turned into events when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import pyopencl as cl

from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.runtime.opencl.clock import DeviceClock
from flashmem_lab.runtime.opencl.tables import Tables


@dataclass(frozen=True, slots=True)
class Note:
    """A command that occupied a lane: on the host until end_ns, or on the device (`event`).

    The device has had it since end_ns.
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


class Recorder:
    """Notes of one run; both threads add to them, the end of the run reads them.

    Args:
        tables: of the program that runs.
        run: its number.
    """

    def __init__(self, tables: Tables, run: int) -> None:
        self._run = run
        self._notes: list[Note] = []
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
        self._notes.append(
            Note(command, lane, kind, weight, layer, weight, size, start_ns, now, event)
        )

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
        self._notes.append(
            Note(command, Lane.COMPUTE, kind, name, layer, weight, size, start_ns, now, event)
        )

    def spans(self, clock: DeviceClock, end_ns: int) -> dict[int, tuple[int, int]]:
        """Start and end of every command of the run, which is over, host ns."""
        return {
            note.command: (note.start_ns, note.end_ns)
            if note.event is None
            else clock.span(note.event, note.start_ns, end_ns)
            for note in self._notes
        }

    def events(self, spans: Mapping[int, tuple[int, int]], origin_ns: int) -> list[Event]:
        """Every event of the finished run, by start, with the stalls of the compute lane."""
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
                run=self._run,
                queued_ns=note.end_ns - origin_ns if note.event is not None else -1,
            )
            for note in self._notes
        ]
        events += self._stalls(spans, origin_ns)
        return sorted(events, key=lambda event: (event.start_ns, event.end_ns))

    def _stalls(self, spans: Mapping[int, tuple[int, int]], origin_ns: int) -> list[Event]:
        """Where a layer could have started, its weights were not there: until they were."""
        stalls = []
        free_ns = origin_ns
        for note in self._notes:
            if note.lane is not Lane.COMPUTE:
                continue
            start_ns, end_ns = spans[note.command]
            after, weight_of = self._tables.after[note.command], self._tables.weight_of
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
                        run=self._run,
                    )
                )
            free_ns = max(free_ns, end_ns)
        return stalls
