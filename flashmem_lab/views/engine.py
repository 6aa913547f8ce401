"""What the views need of the way from a model to a trace; `flashmem_lab.worker` has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flashmem_lab.device.spec import DeviceSpec
    from flashmem_lab.lower.layer import Precision
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.plan.incumbent import Effort
    from flashmem_lab.plan.queue import QueuePlan
    from flashmem_lab.queues import Queue, QueueOutcome
    from flashmem_lab.units import Budget
    from flashmem_lab.worker.jobs import Planned
    from flashmem_lab.worker.planning import Ask
    from flashmem_lab.worker.process import Hear, Stop
    from flashmem_lab.workflow import DeviceState, Prepared


class Engine(Protocol):
    """Opens, plans and runs; as `flashmem_lab.worker.Isolated` does.

    Everything but quick plans is called in a thread: it takes long.
    """

    def devices(self) -> Sequence[DeviceState]:
        """Every device and what is wrong with it."""
        ...

    def open_device(self, device_id: str = "auto") -> DeviceSpec:
        """The device of an id."""
        ...

    def load(
        self,
        path: Path | str,
        *,
        device: DeviceSpec,
        precision: Precision | None = None,
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Prepared:
        """Opens a model and lowers it for a device."""
        ...

    def make_plan(self, prepared: Prepared, ask: Ask, effort: Effort | None = None) -> Plan:
        """A plan: within milliseconds, or with an effort until that is spent."""
        ...

    def plan_each(
        self,
        prepared: Prepared,
        asks: Sequence[Ask],
        hear: Callable[[Planned], None],
        stop: Stop,
    ) -> None:
        """Several plans, each told as soon as it is there."""
        ...

    def plan_queue(self, queue: Queue, *, budget: Budget) -> QueuePlan:
        """A joint plan of several models."""
        ...

    def save_bundle(self, prepared: Prepared, plan: Plan, path: Path) -> None:
        """Writes a bundle, its kernels built."""
        ...

    def run(
        self,
        prepared: Prepared,
        plan: Plan,
        *,
        repeat: int = 1,
        check: bool = False,
        hear: Hear | None = None,
        stop: Stop | None = None,
    ) -> Outcome:
        """Runs a plan."""
        ...

    def run_queue(
        self,
        queue: Queue,
        *,
        budget: Budget,
        check: bool = False,
        compare: bool = False,
        hear: Hear | None = None,
        stop: Stop | None = None,
    ) -> QueueOutcome:
        """Runs several models in turn."""
        ...
