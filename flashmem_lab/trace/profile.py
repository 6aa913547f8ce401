"""Where the time of a run went: every moment of it belongs to one layer, to moving bytes, or none.

The compute lane is the yardstick, because it is what the result waits for. While it works, the
moment is that of the layer (or of the input or output that it moves). While it waits for weights,
the moment is that of the transfer that brings them, else of the disk, else a stall. Where the
device had a command and had not begun it, the moment is the launch's; where the host had yet to
hand it over, it is that of handing it over. Both are part of what the command's layer costs. What
is left is the host's: before it handed over the first command, and behind the last one. The time
of launches that are replayed together is that of their layers, but of no single one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.program.program import LayerCost
from flashmem_lab.trace.runs import Run, split_runs
from flashmem_lab.trace.spans import Spans, merge, union, within
from flashmem_lab.trace.trace import Trace

_MOVES = ("write-input", "read-output", "upload")


@dataclass(frozen=True, slots=True)
class RunShares:
    """The time of one run, divided; the parts add up to `wall_ms`.

    Attributes:
        run: 0 for the cold run.
        wall_ms: its length.
        layers_ms: a layer computed, on the device or on the host.
        launching_ms: the device had the next command and had not begun it.
        handing_ms: the host had not handed the next command over.
        transfer_ms: inputs and outputs moved, or weights went to the device and were waited for.
        disk_ms: the disk read weights that were waited for.
        stall_ms: weights were waited for while nothing moved.
        host_ms: the host was before the first command or behind the last one: of no layer.
    """

    run: int
    wall_ms: float
    layers_ms: float
    launching_ms: float
    handing_ms: float
    transfer_ms: float
    disk_ms: float
    stall_ms: float
    host_ms: float

    @property
    def attributed(self) -> float:
        """Share of the run that belongs to layers, transfers, disk or stalls."""
        return 1 - self.host_ms / self.wall_ms if self.wall_ms else 1.0


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What one layer took of a run.

    Attributes:
        index, name: which.
        kind: of its kernel (`Layer.kind`), "" where the program does not say.
        op_class: operator class.
        ms: its work.
        launching_ms: it was with the device and had not begun.
        handing_ms: the host had not handed it over.
        waiting_ms: until its weights were there, after the layer before it.
        flops, bytes: what it computes, reads and writes.
        flops_per_s, bytes_per_s: rates of its work.
        bound: what its time should be set by, "arithmetic" or "memory".
        of_ceiling: the rate of that over the device's; the ceilings stand in `Profile`.
    """

    index: int
    name: str
    kind: str
    op_class: str
    ms: float
    launching_ms: float
    handing_ms: float
    waiting_ms: float
    flops: int
    bytes: int
    flops_per_s: float
    bytes_per_s: float
    bound: str
    of_ceiling: float


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time of a trace went.

    Attributes:
        runs: each run.
        detailed: number of the run that `layers` are of: the shortest of those that were launched
            one by one, warm if there is one.
        layers: those that took time in it, costliest first.
        ceilings: what the device can do: FLOP/s by operator class, bytes/s as "memory".
        ceiling_source: where these come from.
    """

    runs: tuple[RunShares, ...]
    detailed: int
    layers: tuple[LayerShare, ...]
    ceilings: Mapping[str, float]
    ceiling_source: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; the fields are those of the classes above."""
        return {
            **asdict(self),
            "runs": [asdict(r) | {"attributed": r.attributed} for r in self.runs],
        }


def profile_of(
    trace: Trace, walls_ms: Sequence[float], costs: Sequence[LayerCost], device: DeviceSpec
) -> Profile:
    """Divides the time of every run of `trace`.

    Args:
        trace: measured or simulated.
        walls_ms: how long each run took, from its start to its end.
        costs: of each layer, for the rates; empty where they are not known.
        device: its rates are the ceilings.
    """
    runs = split_runs(trace.timeline)
    divided = [_Division(run, wall) for run, wall in zip(runs, walls_ms, strict=True)]
    shares = tuple(one.shares() for one in divided)
    whole = {event.run for event in trace.timeline.events if event.kind == "replay"}
    told = [one for one in shares if one.run not in whole]
    best = min(told[1:] or told, key=lambda one: one.wall_ms)
    costs = costs or [LayerCost("", 0, 0)] * len(trace.layers)
    layers = divided[shares.index(best)].layers(trace.layers, costs, device)
    return Profile(
        runs=shares,
        detailed=best.run,
        layers=tuple(layers),
        ceilings={
            "memory": device.memory.value,
            **{name: rate.value for name, rate in device.compute.items()},
        },
        ceiling_source=device.memory.source,
    )


class _Division:
    """One run, walked along its compute lane."""

    def __init__(self, run: Run, wall_ms: float) -> None:
        self._run = run.index
        self._wall_ms = wall_ms
        self._work: dict[int, int] = defaultdict(int)
        self._launching: dict[int, int] = defaultdict(int)
        self._handing: dict[int, int] = defaultdict(int)
        self._waiting: dict[int, int] = defaultdict(int)
        self._moved = self._by_transfer = self._by_disk = 0
        lane = sorted(
            (e for e in run.events if e.lane is Lane.COMPUTE), key=lambda e: (e.start_ns, e.end_ns)
        )
        moves = {
            which: union(e for e in run.events if e.lane is which)
            for which in (Lane.TRANSFER, Lane.DISK)
        }
        free_ns = 0  # up to here every moment is somebody's
        for event in lane:
            if event.kind == "stall":
                free_ns = self._stall(event, free_ns, moves)
                continue
            handed_ns = event.queued_ns if event.queued_ns >= 0 else event.start_ns
            if free_ns:
                handed_by_ns = min(handed_ns, event.start_ns)
                self._handing[event.layer] += max(0, handed_by_ns - free_ns)
            self._launching[event.layer] += max(0, event.start_ns - max(free_ns, handed_ns))
            took = max(0, event.end_ns - max(free_ns, event.start_ns))
            if event.kind in _MOVES:
                self._moved += took
            else:
                self._work[event.layer] += took
            free_ns = max(free_ns, event.end_ns)

    def _stall(self, event: Event, free_ns: int, moves: Mapping[Lane, Spans]) -> int:
        begun_ns = max(free_ns, event.start_ns)
        if event.end_ns <= begun_ns:
            return free_ns
        self._waiting[event.layer] += event.end_ns - begun_ns
        moving = within(moves[Lane.TRANSFER], begun_ns, event.end_ns)
        either = merge([*moves[Lane.TRANSFER], *moves[Lane.DISK]])
        self._by_transfer += moving
        self._by_disk += within(either, begun_ns, event.end_ns) - moving
        return event.end_ns

    def shares(self) -> RunShares:
        """The parts, in ms."""
        waiting = sum(self._waiting.values())
        parts = {
            "layers": sum(self._work.values()),
            "launching": sum(self._launching.values()),
            "handing": sum(self._handing.values()),
            "transfer": self._moved + self._by_transfer,
            "disk": self._by_disk,
            "stall": waiting - self._by_transfer - self._by_disk,
        }
        return RunShares(
            run=self._run,
            wall_ms=self._wall_ms,
            host_ms=self._wall_ms - sum(parts.values()) / 1e6,
            **{f"{name}_ms": part / 1e6 for name, part in parts.items()},
        )

    def layers(
        self, names: Sequence[str], costs: Sequence[LayerCost], device: DeviceSpec
    ) -> list[LayerShare]:
        """Every layer that took time, costliest first."""
        took = {
            at: self._work[at] + self._launching[at] + self._handing[at] + self._waiting[at]
            for at in {*self._work, *self._launching, *self._handing, *self._waiting}
        }
        order = sorted((at for at in took if took[at] and at >= 0), key=lambda at: -took[at])
        return [self._layer(at, names[at], costs[at], device) for at in order]

    def _layer(self, at: int, name: str, cost: LayerCost, device: DeviceSpec) -> LayerShare:
        seconds = self._work[at] / 1e9
        flops_per_s = cost.flops / seconds if seconds else 0.0
        bytes_per_s = cost.bytes / seconds if seconds else 0.0
        compute = device.compute.get(cost.op_class)
        arithmetic = flops_per_s / compute.value if compute else 0.0
        memory = bytes_per_s / device.memory.value
        return LayerShare(
            index=at,
            name=name,
            kind=cost.kind,
            op_class=cost.op_class,
            ms=self._work[at] / 1e6,
            launching_ms=self._launching[at] / 1e6,
            handing_ms=self._handing[at] / 1e6,
            waiting_ms=self._waiting[at] / 1e6,
            flops=cost.flops,
            bytes=cost.bytes,
            flops_per_s=flops_per_s,
            bytes_per_s=bytes_per_s,
            bound="arithmetic" if arithmetic >= memory else "memory",
            of_ceiling=max(arithmetic, memory),
        )
