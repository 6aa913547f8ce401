"""The Trace value: what happened in a run, simulated or measured, in one schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flashmem_lab.plan.timeline import Timeline
from flashmem_lab.shown import mimebundle
from flashmem_lab.units import format_bytes


@dataclass(frozen=True, slots=True)
class Trace:
    """A timeline and what it belongs to.

    Attributes:
        origin: "simulated", "measured" (this machine) or "adb".
        model, device, strategy, precision: for people and for exports.
        budget_bytes: the cap of the run.
        timeline: events and memory samples.
        layers: names of the layers, by index.
        notes: further facts to keep beside it (versions, clocks, thermal state).
    """

    origin: str
    model: str
    device: str
    strategy: str
    precision: str
    budget_bytes: int
    timeline: Timeline
    layers: tuple[str, ...]
    notes: Mapping[str, str]

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        events = self.timeline.events
        count = 1 + max((event.run for event in events), default=-1)
        runs = "1 run" if count == 1 else f"{count} runs"
        origin = "Predicted" if self.origin == "simulated" else "Measured"
        return mimebundle(
            f"{origin} trace of {self.model} on {self.device}",
            f"{runs}, {len(events)} events, {len(self.timeline.samples)} memory samples",
            [
                ("strategy", f"{self.strategy}, {self.precision} weights"),
                ("budget", format_bytes(self.budget_bytes)),
                ("layers", str(len(self.layers))),
                *self.notes.items(),
            ],
        )
