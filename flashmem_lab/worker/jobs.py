"""What a child process can be asked to do, and what it says while it does it.

Jobs and what comes back are pickled: both ends are the same code on the same machine, and a plan,
a lowered model or a trace is less than a megabyte. Outputs travel the same way, once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flashmem_lab.devices import DeviceState
from flashmem_lab.outcome import Outcome

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.plan import Plan
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.queues import Queue, QueueOutcome
    from flashmem_lab.runtime.base import Runtime
    from flashmem_lab.units import Budget
    from flashmem_lab.worker.sketch import Sketch


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is: `done` of `total` of `what`."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a job holds now, bytes.

    Attributes:
        device: by pool, as the runtime's ledger counts.
        host: resident set of the child process.
    """

    device: Mapping[str, int]
    host: int

    @property
    def total(self) -> int:
        """On the device, all pools together."""
        return sum(self.device.values())


@dataclass(frozen=True, slots=True)
class Planned:
    """One of several plans that were asked for, the `at`th, and what it would hold.

    None where there is none such.
    """

    at: int
    found: tuple[Plan, Sketch] | None


Message = Step | Held | Planned
"""What a job says while it is done."""


@dataclass(frozen=True, slots=True)
class Quit:
    """From the parent: what the job under way would give is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Done:
    """The job ended with a value."""

    value: object


@dataclass(frozen=True, slots=True)
class Failed:
    """The job ended with an error."""

    error: Exception


class Desk(Protocol):
    """What a job finds in the child: open devices, and an ear for how far it is."""

    def runtime(self, device: DeviceSpec) -> tuple[Runtime, float]:
        """The runtime of a device, with the kernels it has built, and what opening it took, ms."""
        ...

    def tell(self, what: str, done: int, total: int) -> None:
        """Passes progress on, now and then; from any thread."""
        ...

    def send(self, message: Message) -> None:
        """Passes a message on; from any thread."""
        ...

    def stopped(self) -> bool:
        """Whether the job is not wanted any more; one that never asks is ended with the child."""
        ...


class Job(Protocol):
    """A piece of work; pickled on its way to the child."""

    def do(self, desk: Desk) -> object:
        """Does it, in the child."""
        ...


@dataclass(frozen=True, slots=True)
class ListDevices:
    """Every device and what is wrong with it."""

    def do(self, desk: Desk) -> list[DeviceState]:
        """See `Job.do`."""
        from flashmem_lab.devices import devices

        return devices()


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """The device of an id."""

    device_id: str

    def do(self, desk: Desk) -> DeviceSpec:
        """See `Job.do`."""
        from flashmem_lab.devices import open_device

        return open_device(self.device_id)


@dataclass(frozen=True, slots=True)
class SaveBundle:
    """Writes a bundle; see `workflow.save_bundle`."""

    prepared: Prepared
    plan: Plan
    path: Path

    def do(self, desk: Desk) -> None:
        """See `Job.do`."""
        from flashmem_lab.workflow import save_bundle

        save_bundle(self.prepared, self.plan, self.path, progress=desk.tell)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Runs a plan; see `workflow.run`."""

    prepared: Prepared
    plan: Plan
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeat: int = 1
    check: bool = False

    def do(self, desk: Desk) -> Outcome:
        """See `Job.do`. What opening the device took is part of the cold time, once."""
        from flashmem_lab import workflow

        # Host memory is compared with what this process held before, not the one that planned.
        prepared = replace(self.prepared, rss_bytes=workflow.resident_bytes())
        runtime, open_ms = desk.runtime(prepared.device)
        outcome = workflow.run(
            prepared,
            self.plan,
            self.inputs,
            repeat=self.repeat,
            check=self.check,
            runtime=runtime,
            progress=desk.tell,
        )
        if "open" not in outcome.stages_ms:
            return outcome  # a simulated device: nothing was opened
        return replace(outcome, stages_ms={**outcome.stages_ms, "open": open_ms})


@dataclass(frozen=True, slots=True)
class RunQueue:
    """Runs several models in turn; see `queues.run_queue`."""

    queue: Queue
    budget: Budget
    check: bool = False
    compare: bool = False

    def do(self, desk: Desk) -> QueueOutcome:
        """See `Job.do`."""
        from flashmem_lab.queues import run_queue

        runtime, _ = desk.runtime(self.queue.models[0].device)
        return run_queue(
            self.queue,
            budget=self.budget,
            check=self.check,
            compare=self.compare,
            runtime=runtime,
            progress=desk.tell,
        )
