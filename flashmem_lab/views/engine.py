"""What the views need of the way from a model to a trace; `flashmem_lab.worker` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flashmem_lab.plan.simulate import simulate
from flashmem_lab.trace import Trace

if TYPE_CHECKING:
    from flashmem_lab.device.spec import DeviceSpec
    from flashmem_lab.lower.layer import Precision
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Constraints, Objective, Plan, Strategy
    from flashmem_lab.plan.incumbent import Effort
    from flashmem_lab.queues import Queue, QueueOutcome
    from flashmem_lab.units import Budget
    from flashmem_lab.worker.process import Hear, Stop
    from flashmem_lab.workflow import DeviceState, Prepared


class Engine(Protocol):
    """Opens, plans and runs; as `flashmem_lab.worker.Isolated` does."""

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

    def make_plan(
        self,
        prepared: Prepared,
        *,
        budget: Budget,
        strategy: Strategy | None = None,
        optimize: Objective | None = None,
        constraints: Constraints | None = None,
        effort: Effort | None = None,
    ) -> Plan:
        """A plan within a budget."""
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
        """Runs a plan; called in a thread."""
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
        """Runs several models in turn; called in a thread."""
        ...


def preview(prepared: Prepared, plan: Plan) -> Trace:
    """The predicted trace of `plan`, without packing a weight: milliseconds, not seconds.

    Weights move whole in it, not chunk by chunk: nobody sees the difference in a picture.
    """
    return Trace(
        origin="simulated",
        model=prepared.model.name,
        device=prepared.device.id,
        strategy=plan.strategy.value,
        precision=plan.precision,
        budget_bytes=plan.budget_bytes,
        timeline=simulate(plan, prepared.model, prepared.device, runs=1, by_weight=True),
        layers=tuple(layer.name for layer in prepared.model.layers),
        notes={},
    )
