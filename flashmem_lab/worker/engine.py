"""`flashmem_lab.workflow` with everything that loads a driver in a child process."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashmem_lab.fitting import make_plan
from flashmem_lab.prepared import load
from flashmem_lab.worker.board import About, Notice
from flashmem_lab.worker.jobs import Held, Job, ListDevices, OpenDevice, RunPlan, RunQueue, Step
from flashmem_lab.worker.process import Hear, Stop, Worker

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.devices import DeviceState
    from flashmem_lab.lower import Precision
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Constraints, Effort, Objective, Plan, Strategy
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.queues import Queue, QueueOutcome
    from flashmem_lab.units import Budget


class Isolated:
    """Opens, plans and runs; no driver is ever loaded into this process.

    Every function raises what that of `flashmem_lab.workflow` does, and `WorkerDied` where the
    child process crashed; the next call starts another.

    Args:
        worker: the child process.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def load(
        self,
        path: Path | str,
        *,
        device: DeviceSpec,
        precision: Precision | None = None,
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Prepared:
        """Opens a model and lowers it for a device; in this process."""
        return load(path, device=device, precision=precision, dims=dims, shapes=shapes)

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
        """A plan within a budget; in this process."""
        return make_plan(
            prepared,
            budget=budget,
            strategy=strategy,
            optimize=optimize,
            constraints=constraints,
            effort=effort,
        )

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

            def heard(message: Step | Held) -> None:
                notice.hear(message)
                if hear is not None:
                    hear(message)

            return self._worker.do(
                job, heard, lambda: notice.stopped() or (stop is not None and stop())
            )


@cache
def isolated() -> Isolated:
    """The one of this process: all workbenches share its child, and run one after another."""
    worker = Worker()
    atexit.register(worker.close)
    return Isolated(worker)
