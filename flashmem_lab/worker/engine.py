"""`flashmem_lab.workflow` with all that takes long, or loads a driver, in child processes."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmem_lab.worker.board import About, Notice
from flashmem_lab.worker.jobs import (
    Job,
    ListDevices,
    Message,
    OpenDevice,
    Planned,
    RunPlan,
    RunQueue,
    SaveBundle,
)
from flashmem_lab.worker.planning import Ask, LoadModel, PlanEach, PlanQueue, Solve
from flashmem_lab.worker.process import Hear, Stop, Worker

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.devices import DeviceState
    from flashmem_lab.lower import Precision
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Effort, Plan
    from flashmem_lab.plan.queue import QueuePlan
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.queues import Queue, QueueOutcome
    from flashmem_lab.units import Budget


class Isolated:
    """Opens, plans and runs; no driver is ever loaded into this process.

    Every function raises what that of `flashmem_lab.workflow` does, and `WorkerDied` where a child
    process crashed; the next call starts another. All but quick plans wait for a child: they are
    for threads, in which they leave the interpreter to others.

    Args:
        worker: the child process that has the drivers.
        thinker: the one that opens, lowers and solves, while the other one may run something.
    """

    def __init__(self, worker: Worker, thinker: Worker) -> None:
        self._worker, self._thinker = worker, thinker

    def close(self) -> None:
        """Ends both processes, with whatever they do."""
        self._worker.close()
        self._thinker.close()

    def load(
        self,
        path: Path | str,
        *,
        device: DeviceSpec,
        precision: Precision | None = None,
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Prepared:
        """Opens a model and lowers it for a device, in a child."""
        job = LoadModel(Path(path).absolute(), device, precision, dims, shapes)
        prepared: Prepared = self._thinker.do(job)
        return prepared

    def make_plan(self, prepared: Prepared, ask: Ask, effort: Effort | None = None) -> Plan:
        """A plan, in this process: milliseconds; with an effort in a child, until that is spent.

        Raises:
            Cancelled: `effort.should_stop` said so; the plan so far is dropped.
        """
        if effort is None:
            return ask.plan(prepared)
        job = Solve(prepared, ask, replace(effort, should_stop=None))
        plan: Plan = self._thinker.do(job, stop=effort.should_stop)
        return plan

    def plan_each(
        self,
        prepared: Prepared,
        asks: Sequence[Ask],
        hear: Callable[[Planned], None],
        stop: Stop,
    ) -> None:
        """Several plans of a model, in a child; `hear` is told of each as soon as it is there.

        Raises:
            Cancelled: `stop` said so.
        """

        def heard(message: Message) -> None:
            if isinstance(message, Planned):
                hear(message)

        self._thinker.do(PlanEach(prepared, tuple(asks)), heard, stop)

    def plan_queue(self, queue: Queue, *, budget: Budget) -> QueuePlan:
        """A joint plan of several models, in a child."""
        plan: QueuePlan = self._thinker.do(PlanQueue(queue, budget))
        return plan

    def save_bundle(self, prepared: Prepared, plan: Plan, path: Path) -> None:
        """Writes a bundle, its kernels built by the device's driver; waits for a run under way."""
        self._worker.do(SaveBundle(prepared, plan, path.absolute()))

    def devices(self) -> list[DeviceState]:
        """Every device and what is wrong with it; waits for a run under way.

        In a new child: a process asks its drivers once, and never sees what came or went since.
        """
        found: list[DeviceState] = self._worker.do(ListDevices(), fresh=True)
        return found

    def open_device(self, device_id: str = "auto") -> DeviceSpec:
        """The device of an id; waits for a run under way."""
        spec: DeviceSpec = self._worker.do(OpenDevice(device_id))
        return spec

    def run(
        self,
        prepared: Prepared,
        plan: Plan,
        inputs: Mapping[str, np.ndarray] | None = None,
        *,
        repeat: int = 1,
        check: bool = False,
        hear: Hear | None = None,
        stop: Stop | None = None,
    ) -> Outcome:
        """Runs a plan, as `workflow.run` does.

        Raises:
            Cancelled: `stop` said so; the child was ended.
        """
        job = RunPlan(prepared, plan, dict(inputs or {}), repeat, check)
        about = About(plan.model, str(prepared.graph.path), plan.device, plan.budget_bytes)
        outcome: Outcome = self._posted(about, job, hear, stop)
        return outcome

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
        """Runs several models in turn, as `queues.run_queue` does.

        Raises:
            Cancelled: `stop` said so; the child was ended.
        """
        job = RunQueue(queue, budget, check, compare)
        names = " + ".join(prepared.model.name for prepared in queue.models)
        about = About(names, "", queue.models[0].device.id, budget.bytes or 0)
        outcome: QueueOutcome = self._posted(about, job, hear, stop)
        return outcome

    def _posted(self, about: About, job: Job, hear: Hear | None, stop: Stop | None) -> Any:
        """Does a job while there is a notice of it, from which it can be stopped too."""
        with Notice(about) as notice:

            def heard(message: Message) -> None:
                notice.hear(message)
                if hear is not None:
                    hear(message)

            return self._worker.do(
                job, heard, lambda: notice.stopped() or (stop is not None and stop())
            )


@cache
def isolated() -> Isolated:
    """The one of this process: all workbenches share its children, and run one after another."""
    engine = Isolated(Worker(), Worker(lasting=True))
    atexit.register(engine.close)
    return engine
