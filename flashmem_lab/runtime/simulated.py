"""A runtime without a device: the lanes of a program on the clock of a DeviceSpec."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashmem_lab.device.spec import NO_HOST, DeviceSpec, Transport, carrying_ns
from flashmem_lab.errors import UsageError
from flashmem_lab.lower.layer import RowFetch
from flashmem_lab.plan.lanes import Contention, Span, Task, run_lanes
from flashmem_lab.plan.timeline import Event, Lane, Pool, Timeline
from flashmem_lab.program.check_carries import carriers_of
from flashmem_lab.program.program import (
    Alloc,
    ComputeCommand,
    Free,
    HostStep,
    Launch,
    MemoryCommand,
    Move,
    Program,
    Read,
    Upload,
)
from flashmem_lab.runtime.base import Progress, RunResult
from flashmem_lab.runtime.ledger import TimedLedger
from flashmem_lab.runtime.simulated_host import hold_up
from flashmem_lab.runtime.uses import first_uses
from flashmem_lab.trace.trace import Trace

_MEMORY = "memory"  # the lane of the total order; it takes no time of its own
Spans = Mapping[int, Span]


class SimulatedRuntime:
    """Runs programs on paper: the same lanes, order and ledger as a device, and no bytes.

    A layer lasts as long as `DeviceSpec.layer_ns` says; moving a chunk lasts as long as its bytes
    at the lane's rate, and a layer that moves chunks itself takes longer as `carrying_ns` says.
    While the disk reads, layers and uploads take longer by the device's contention. What the host
    takes besides holds up layers as `HostTimes` says. What is given to the model and
    what it gives back take no time.

    Args:
        device: whose rates to use.

    Attributes:
        spec: that device.
    """

    def __init__(self, device: DeviceSpec) -> None:
        self.spec = device

    def prepare(self, program: Program, progress: Progress | None = None) -> None:
        """There is nothing to build."""

    def held_bytes(self) -> Mapping[str, int]:
        """Nothing: a run is over as soon as it began."""
        return {}

    def close(self) -> None:
        """Nothing is held."""

    def run(
        self,
        program: Program,
        weights: Path | Sequence[Path],
        inputs: Mapping[str, np.ndarray],
        *,
        repeat: int = 1,
        progress: Progress | None = None,
    ) -> RunResult:
        """See `Runtime.run`; inputs and weights are not looked at, outputs stay empty.

        Raises:
            UsageError: `repeat` is less than 1.
            OutOfBudget: the program would hold more than its budget.
        """
        if repeat < 1:
            raise UsageError(f"a program runs at least once, not {repeat} times")
        clock = _Clock()
        ledger = TimedLedger(program.budget_bytes, clock)
        events: list[Event] = []
        lengths: list[int] = []
        for number in range(repeat):
            run = _simulate(program, self.spec, number)
            begun = clock.now_ns
            ledger.begin_run(number, begun)
            _hold(program, run, ledger, clock, begun)
            clock.now_ns = begun + run.end_ns
            ledger.end_run(clock.now_ns)
            events += run.events
            lengths.append(run.end_ns)
            if progress is not None:
                progress(f"run {number + 1} of {repeat}", len(program.layers), len(program.layers))
        stalls = [e for e in events if e.kind == "stall" and e.run == 0]
        return RunResult(
            outputs={},
            trace=Trace(
                origin="simulated",
                model=program.model,
                device=self.spec.id,
                strategy=program.strategy,
                precision=program.precision,
                budget_bytes=program.budget_bytes,
                timeline=Timeline(tuple(events), tuple(ledger.samples)),
                layers=program.layers,
                notes={"device": self.spec.name},
            ),
            first_run_ms=lengths[0] / 1e6,
            warm_ms=tuple(length / 1e6 for length in lengths[1:]),
            compile_ms=0.0,
            stall_ms=sum(e.end_ns - e.start_ns for e in stalls) / 1e6,
            peak_bytes={**ledger.peak_bytes(), "host": 0},
            average_bytes=ledger.average_bytes(),
        )


class _Clock:
    """The ledger's clock; the simulation sets it."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: when its memory commands happen, what the lanes do, when it ends."""

    memory: tuple[tuple[MemoryCommand, int], ...]
    events: tuple[Event, ...]
    end_ns: int


def _hold(program: Program, run: _Run, ledger: TimedLedger, clock: _Clock, begun: int) -> None:
    """Books the run's memory commands at their times; the ring is there from the first run on."""
    ring = program.staging_bytes
    if ring and not ledger.total:
        ledger.create(Pool.STAGING, ring, "staging ring", lambda: None)
    for command, time_ns in run.memory:
        clock.now_ns = begun + time_ns
        item = program.objects[command.object]
        if isinstance(command, Alloc):
            ledger.create(item.pool, item.bytes, item.name, lambda: None)
        else:
            ledger.release(item.pool, item.bytes)


# --- one run -------------------------------------------------------------------------------


def _simulate(program: Program, device: DeviceSpec, number: int) -> _Run:
    """The commands of run `number` as tasks; what an earlier run did once is left out."""
    cold = number == 0
    reading = device.reading(cold=cold, transport=program.transport)
    memory = [c for c in program.memory if cold or not (isinstance(c, Alloc) and c.once)]
    disk = [read for read in program.disk if cold or not read.once]
    transfer = [upload for upload in program.transfer if cold or not upload.once]
    compute = [c for c in program.compute if cold or not (isinstance(c, Move) and c.once)]
    moving = {upload.id: upload for upload in transfer}
    happening = {c.id for c in (*memory, *disk, *transfer, *compute)}

    host = NO_HOST if program.transport is Transport.INLINE else device.host
    start_ns = (host.first_start_ns if cold else host.start_ns).value
    uses = first_uses(program)

    def after(command: Free | Read | Upload | ComputeCommand) -> tuple[int, ...]:
        return tuple(other for other in command.after if other in happening)

    besides_ns = reading.weight_ns.value if program.transport is Transport.MAP else 0.0

    def reading_ns(read: Read) -> float:
        return _moving_ns(read.bytes, reading.disk.value) + (0.0 if read.chunk else besides_ns)

    working_ns = {c.id: _working_ns(c, program, device, _carried(c, moving)) for c in compute}
    hold_up(working_ns, program, device, uses, cold=cold)
    copying = program.transport is Transport.COPY
    slots = program.staging_bytes // program.slot_bytes if program.slot_bytes else 0
    # A read waits until the slot that it takes was emptied; the first ones find it empty.
    emptied: list[tuple[int, ...]] = [()] * (slots or len(disk))
    carriers = carriers_of(program)
    emptied += [(carriers.get(upload.id, upload.id),) for upload in transfer if slots]
    lanes: dict[Hashable, list[Task]] = {
        _MEMORY: [Task(c.id, 0.0, after(c) if isinstance(c, Free) else ()) for c in memory],
        Lane.DISK: [
            Task(read.id, reading_ns(read), (*after(read), *empty))
            for read, empty in zip(disk, emptied, strict=False)
        ],
        Lane.TRANSFER: [
            Task(
                upload.id,
                _moving_ns(upload.bytes, device.upload.value) if copying else 0.0,
                after(upload),
            )
            for upload in transfer
        ],
        Lane.COMPUTE: [Task(c.id, working_ns[c.id], after(c)) for c in compute],
    }
    slowed = Contention(
        by=Lane.DISK, of=(Lane.TRANSFER, Lane.COMPUTE), share=reading.contention.value
    )
    spans = {
        id_: Span(start_ns + span.start_ns, start_ns + span.end_ns)
        for id_, span in run_lanes(lanes, slowed).items()
    }
    events = [
        *_moves(Lane.DISK, "read", disk, spans, program, number),
        *_moves(Lane.TRANSFER, "upload", transfer if copying else [], spans, program, number),
        *_layers(program.layers, compute, spans, moving, number, round(start_ns)),
    ]
    return _Run(
        memory=tuple((command, round(spans[command.id].start_ns)) for command in memory),
        events=tuple(sorted(events, key=lambda event: (event.start_ns, event.end_ns))),
        end_ns=round(max((span.end_ns for span in spans.values()), default=0.0)),
    )


def _moving_ns(size: int, rate: float) -> float:
    return size / rate * 1e9


def _carried(command: ComputeCommand, moving: Mapping[int, Upload]) -> int:
    """Bytes that a kernel moves in this run."""
    if not isinstance(command, Launch | Move):
        return 0
    return sum(moving[upload].bytes for upload in command.carries if upload in moving)


def _working_ns(
    command: ComputeCommand, program: Program, device: DeviceSpec, carried: int
) -> float:
    if isinstance(command, Move):
        return device.launch_ns.value + _moving_ns(carried, device.upload.value)
    if not isinstance(command, Launch | HostStep):
        return 0.0
    if not program.costs:
        own_ns, slack = device.launch_ns.value, 0.0
    else:
        cost = program.costs[command.layer]
        own_ns = device.layer_ns(cost.op_class, cost.kind, cost.flops, cost.bytes)
        slack = device.slack[cost.op_class].value
    return carrying_ns(own_ns, slack, device.upload.value, carried)


# --- events --------------------------------------------------------------------------------


def _moves(
    lane: Lane,
    kind: str,
    commands: Iterable[Read | Upload],
    spans: Spans,
    program: Program,
    number: int,
) -> list[Event]:
    uses = first_uses(program)
    return [
        Event(
            lane=lane,
            kind=kind,
            name=command.weight,
            layer=uses.get(command.weight, -1),
            weight=command.weight,
            start_ns=round(spans[command.id].start_ns),
            end_ns=round(spans[command.id].end_ns),
            bytes=command.bytes,
            run=number,
        )
        for command in commands
    ]


def _layers(
    layers: Sequence[str],
    compute: Iterable[ComputeCommand],
    spans: Spans,
    moving: Mapping[int, Upload],
    number: int,
    free: int,
) -> list[Event]:
    """Layers as they run, from `free` on, each behind the stall until its last weight came."""
    events = []
    for command in compute:
        if not isinstance(command, Launch | Move | HostStep):
            continue
        start, end = (round(at) for at in (spans[command.id].start_ns, spans[command.id].end_ns))
        if start > free:
            awaited = [moving[other] for other in command.after if other in moving]
            last = max(awaited, key=lambda upload: spans[upload.id].end_ns, default=None)
            weight = last.weight if last is not None else ""
            name = layers[command.layer]
            stall = Event(
                Lane.COMPUTE, "stall", name, command.layer, weight, free, start, 0, number
            )
            events.append(stall)
        size = _carried(command, moving)
        events.append(
            Event(
                lane=Lane.COMPUTE,
                kind=_kind(command),
                name=command.name,
                layer=command.layer,
                weight=command.name if isinstance(command, Move) else "",
                start_ns=start,
                end_ns=end,
                bytes=size,
                run=number,
            )
        )
        free = end
    return events


def _kind(command: Launch | Move | HostStep) -> str:
    if isinstance(command, HostStep):
        return "rows" if isinstance(command.work, RowFetch) else "host"
    return "launch" if isinstance(command, Launch) else "upload"
