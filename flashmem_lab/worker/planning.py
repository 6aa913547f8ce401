"""Jobs that only read files and compute: opening, lowering, planning; none needs a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab.errors import FlashMemError
from flashmem_lab.worker.jobs import Desk, Planned

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec, Transport
    from flashmem_lab.lower import Precision
    from flashmem_lab.plan import Constraints, Effort, Objective, Plan, Prices, Strategy
    from flashmem_lab.plan.queue import QueuePlan
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.queues import Queue
    from flashmem_lab.units import Budget


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Opens a model and lowers it for a device; see `prepared.load`."""

    path: Path
    device: DeviceSpec
    precision: Precision | None
    dims: Mapping[str, int] | None
    shapes: Mapping[str, tuple[int, ...]] | None

    def do(self, desk: Desk) -> Prepared:
        """See `Job.do`."""
        from flashmem_lab.prepared import load

        return load(
            self.path,
            device=self.device,
            precision=self.precision,
            dims=self.dims,
            shapes=self.shapes,
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a plan; see `fitting.make_plan`, whose defaults None stands for."""

    budget: Budget
    strategy: Strategy | None = None
    optimize: Objective | None = None
    constraints: Constraints | None = None
    transport: Transport | None = None
    chunk_bytes: int | None = None
    prices: Prices | None = None

    def plan(self, prepared: Prepared, effort: Effort | None = None) -> Plan:
        """Makes it."""
        from flashmem_lab.fitting import make_plan

        return make_plan(
            prepared,
            budget=self.budget,
            strategy=self.strategy,
            optimize=self.optimize,
            constraints=self.constraints,
            transport=self.transport,
            chunk_bytes=self.chunk_bytes,
            prices=self.prices,
            effort=effort,
        )


@dataclass(frozen=True, slots=True)
class Solve:
    """A plan of the solver's; `effort` without what asks it to stop, which stays behind."""

    prepared: Prepared
    ask: Ask
    effort: Effort

    def do(self, desk: Desk) -> Plan:
        """See `Job.do`."""
        return self.ask.plan(self.prepared, replace(self.effort, should_stop=desk.stopped))


@dataclass(frozen=True, slots=True)
class PlanEach:
    """Several plans of one model, each told as soon as it is there."""

    prepared: Prepared
    asks: tuple[Ask, ...]

    def do(self, desk: Desk) -> None:
        """See `Job.do`."""
        from flashmem_lab.worker.sketch import preview, sketch

        for at, ask in enumerate(self.asks):
            if desk.stopped():
                return
            try:
                plan = ask.plan(self.prepared)
            except FlashMemError:  # no room for what is demanded; with another budget there may be
                desk.send(Planned(at, None))
            else:
                desk.send(Planned(at, (plan, sketch(preview(self.prepared, plan)))))


@dataclass(frozen=True, slots=True)
class PlanQueue:
    """A joint plan of several models; see `plan.queue.plan_queue`."""

    queue: Queue
    budget: Budget

    def do(self, desk: Desk) -> QueuePlan:
        """See `Job.do`."""
        from flashmem_lab.plan.queue import plan_queue

        models = [prepared.model for prepared in self.queue.places]
        return plan_queue(models, self.queue.models[0].device, budget=self.budget)
