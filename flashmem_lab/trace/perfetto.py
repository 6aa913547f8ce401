"""Perfetto's own format, for ui.perfetto.dev: a track for each lane, counters for memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.plan.timeline import Event, Lane, Pool
from flashmem_lab.trace.runs import DEVICE_POOLS, Run, host_curve, memory_curve, split_runs
from flashmem_lab.trace.trace import Trace
from flashmem_lab.trace.write import write_file

if TYPE_CHECKING:
    from perfetto.trace_builder.proto_builder import TraceProtoBuilder

_SEQUENCE = 1  # every packet comes from one writer
_PROCESS = 1  # track ids, unique in the file
_TOTAL = 2
_COUNTERS = {pool: 3 + number for number, pool in enumerate(Pool)}
_LANES = {lane: 100 * (1 + number) for number, lane in enumerate(Lane)}


def write_perfetto(trace: Trace, path: Path) -> None:
    """Writes `trace` as a Perfetto protobuf trace (.pftrace).

    Raises:
        FlashMemError: the file cannot be written.
    """
    from perfetto.trace_builder.proto_builder import TraceProtoBuilder

    writer = _Writer(TraceProtoBuilder())
    writer.process(f"{trace.model} on {trace.device} ({trace.origin})")
    writer.counter_track(_TOTAL, "device memory: total")
    for pool, track in _COUNTERS.items():
        where = "host resident set" if pool is Pool.HOST else f"device memory: {pool.value}"
        writer.counter_track(track, where)
    runs = split_runs(trace.timeline)
    for lane in Lane:
        rows = _rows([(run, e) for run in runs for e in run.events if e.lane is lane])
        for number, row in enumerate(rows or [[]]):
            writer.lane_track(_LANES[lane] + number, lane.value)
            for run, event in row:
                writer.slice(_LANES[lane] + number, run, event)
    for run in runs:
        _write_memory(writer, run)
    write_file(path, writer.builder.serialize(), "writing the trace")


def _rows(events: list[tuple[Run, Event]]) -> list[list[tuple[Run, Event]]]:
    """Events in as few rows as hold them without overlap: slices of a track must nest."""
    rows: list[list[tuple[Run, Event]]] = []
    ends: list[int] = []
    for run, event in events:
        start = run.begin_ns + event.start_ns
        free = next((i for i, end in enumerate(ends) if end <= start), None)
        if free is None:
            free = len(rows)
            rows.append([])
            ends.append(0)
        rows[free].append((run, event))
        ends[free] = run.begin_ns + event.end_ns
    return rows


def _write_memory(writer: _Writer, run: Run) -> None:
    curve = memory_curve(run)
    series = [
        (_TOTAL, curve.total),
        *((_COUNTERS[pool], curve.pools[pool]) for pool in DEVICE_POOLS),
    ]
    for track, held in series:
        for row, time in enumerate(curve.time_ns):
            if row == 0 or held[row] != held[row - 1]:
                writer.count(track, run.begin_ns + int(time), int(held[row]))
    for time, resident in zip(*host_curve(run), strict=True):
        writer.count(_COUNTERS[Pool.HOST], run.begin_ns + int(time), int(resident))


class _Writer:
    """Fills packets; the only place that knows the protobuf's fields."""

    def __init__(self, builder: TraceProtoBuilder) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

        self.builder = builder
        self._event = proto.TrackEvent
        self._counter = proto.CounterDescriptor

    def process(self, name: str) -> None:
        descriptor = self._packet(0).track_descriptor
        descriptor.uuid = _PROCESS
        descriptor.process.pid = 1
        descriptor.process.process_name = name

    def lane_track(self, track: int, name: str) -> None:
        descriptor = self._packet(0).track_descriptor
        descriptor.uuid = track
        descriptor.parent_uuid = _PROCESS
        descriptor.name = name

    def counter_track(self, track: int, name: str) -> None:
        descriptor = self._packet(0).track_descriptor
        descriptor.uuid = track
        descriptor.parent_uuid = _PROCESS
        descriptor.name = name
        descriptor.counter.unit = self._counter.UNIT_SIZE_BYTES

    def slice(self, track: int, run: Run, event: Event) -> None:
        begin = self._packet(run.begin_ns + event.start_ns).track_event
        begin.type = self._event.TYPE_SLICE_BEGIN
        begin.track_uuid = track
        begin.name = event.name
        begin.categories.append(event.kind)
        for key, number in (("layer", event.layer), ("bytes", event.bytes), ("run", event.run)):
            note = begin.debug_annotations.add()
            note.name = key
            note.int_value = number
        for key, text in (("kind", event.kind), ("weight", event.weight)):
            note = begin.debug_annotations.add()
            note.name = key
            note.string_value = text
        end = self._packet(run.begin_ns + event.end_ns).track_event
        end.type = self._event.TYPE_SLICE_END
        end.track_uuid = track

    def count(self, track: int, time_ns: int, value: int) -> None:
        event = self._packet(time_ns).track_event
        event.type = self._event.TYPE_COUNTER
        event.track_uuid = track
        event.counter_value = value

    def _packet(self, time_ns: int) -> Any:
        packet = self.builder.add_packet()
        packet.timestamp = time_ns
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet
