"""Several models in turn under one cap, from their files to outputs and one trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.devices import SIMULATED, open_runtime
from flashmem_lab.errors import CacheCorrupt, UsageError
from flashmem_lab.folders import cache_directory
from flashmem_lab.units import format_bytes
from flashmem_lab.workflow import (
    Prepared,
    Progress,
    Say,
    compile_plan,
    make_plan,
)

if TYPE_CHECKING:
    import numpy as np

    from flashmem_lab.arrays import Check
    from flashmem_lab.device import Transport
    from flashmem_lab.plan import Plan
    from flashmem_lab.plan.queue import QueuePlan
    from flashmem_lab.program import Packed
    from flashmem_lab.program.program import Program
    from flashmem_lab.runtime.base import RunResult, Runtime
    from flashmem_lab.trace import ReportSection, Trace
    from flashmem_lab.units import Budget

SCHEMA = "flashmem-lab/queue/1"


@dataclass(frozen=True, slots=True)
class Queue:
    """Models opened for one device, and the order in which they run.

    Attributes:
        models: distinct ones.
        order: positions in `models`; one may come again.
    """

    models: tuple[Prepared, ...]
    order: tuple[int, ...]

    @property
    def places(self) -> list[Prepared]:
        """The model of each place."""
        return [self.models[at] for at in self.order]


@dataclass(frozen=True, slots=True)
class Place:
    """What one place of the queue did.

    Attributes:
        model: its name.
        start_ms, end_ms: of its layers, from the start of the queue.
        check: comparison with onnxruntime, if one was asked for.
    """

    model: str
    start_ms: float
    end_ms: float
    check: Check | None


@dataclass(frozen=True, slots=True)
class Alone:
    """The same models in the same order, each one loaded when the one before it has ended.

    Attributes:
        strategy: of each model's own plan under the same cap: "preload" ("always-next" where not
            all of a model fits), or "greedy", the plan that `run` makes.
        total_ms: sum of their first runs.
        peak_bytes: highest of them.
    """

    strategy: str
    total_ms: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class QueueOutcome:
    """What a queue was and gave; `result` has the outputs, named "PLACE/NAME"."""

    plan: QueuePlan
    program: Program
    result: RunResult
    predicted: Trace
    places: tuple[Place, ...]
    alone: tuple[Alone, ...]

    @property
    def ok(self) -> bool:
        """No check failed."""
        return all(place.check is None or place.check.ok for place in self.places)

    @property
    def predicted_ms(self) -> float:
        """Simulated time from first to last."""
        from flashmem_lab.trace.statistics import statistics

        return statistics(self.predicted).runs[0].duration_ns / 1e6

    def report_section(self) -> ReportSection:
        """The queue as a section of a report, beside the same models one after another."""
        from flashmem_lab.trace import ReportSection, RunRow

        joint = RunRow(
            label="queue",
            budget_bytes=self.program.budget_bytes,
            peak_bytes=self.result.peak_bytes["total"],
            average_bytes=self.result.average_bytes,
            first_run_ms=self.result.first_run_ms,
            stall_ms=self.result.stall_ms,
            predicted_peak_bytes=self.program.predicted_peak_bytes,
            predicted_ms=self.predicted_ms,
            check="ok" if self.ok and any(place.check for place in self.places) else "",
        )
        alone = [
            RunRow(
                label=f"one by one, {one.strategy}",
                budget_bytes=self.program.budget_bytes,
                peak_bytes=one.peak_bytes,
                first_run_ms=one.total_ms,
            )
            for one in self.alone
        ]
        return ReportSection(
            title=" → ".join(place.model for place in self.places),
            device=self.program.device,
            precision=self.program.precision,
            strategy=self.program.strategy,
            runs=[joint, *alone],
            budget_bytes=self.program.budget_bytes,
            min_budget_bytes=self.plan.least_bytes,
            preload_peak_bytes=self.plan.preload_peak_bytes,
            text=f"{len(self.places)} models in turn under one cap; "
            f"{format_bytes(self.plan.kept_bytes)} stayed for a later round.",
            predicted=self.predicted,
            measured=self.result.trace,
        )

    def to_json(self) -> dict[str, Any]:
        """The figures of `queue --json`."""
        return {
            "schema": SCHEMA,
            "device": self.program.device,
            "precision": self.program.precision,
            "transport": self.program.transport.value,
            "budget_bytes": self.program.budget_bytes,
            "min_budget_bytes": self.plan.least_bytes,
            "preload_peak_bytes": self.plan.preload_peak_bytes,
            "kept_bytes": self.plan.kept_bytes,
            "peak_bytes": dict(self.result.peak_bytes),
            "average_bytes": self.result.average_bytes,
            "total_ms": self.result.first_run_ms,
            "stall_ms": self.result.stall_ms,
            "predicted": {
                "peak_bytes": self.program.predicted_peak_bytes,
                "total_ms": self.predicted_ms,
            },
            "models": [asdict(place) for place in self.places],
            "one_after_another": [asdict(alone) for alone in self.alone],
        }


def run_queue(
    queue: Queue,
    *,
    budget: Budget,
    transport: Transport | None = None,
    check: bool = False,
    compare: bool = False,
    seed: int = 0,
    cache: Path | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> QueueOutcome:
    """Plans, packs, builds and runs a queue; a damaged weight cache is made anew, once.

    Args:
        queue: what runs.
        budget: cap on everything held at once, all models together.
        transport: how bytes move; the device's preference by default.
        check: compare every model's outputs with onnxruntime's, after everything was measured.
        compare: then run the same models one after another, under the same cap.
        seed: of the inputs; every place has its own.
        cache: where packed weights are kept.
        runtime: one that is open on the device already; it stays open.
        progress: told of packing, kernel building and layers.
        say: told when the cache was mended.

    Raises:
        BudgetTooSmall, PlanError, DiskFull, DeviceError: as those of a single run.
    """
    from flashmem_lab.plan import check_plan
    from flashmem_lab.plan.queue import plan_queue
    from flashmem_lab.program import build_program
    from flashmem_lab.samples import sample_inputs
    from flashmem_lab.workflow import predict

    device = queue.models[0].device
    if check and device.id.startswith(SIMULATED):
        raise UsageError(
            f"{device.id} computes nothing that could be checked",
            hint="run on an OpenCL device, or leave --check out",
        )
    models = [prepared.model for prepared in queue.places]
    planned = plan_queue(models, device, budget=budget, transport=transport)
    check_plan(planned.plan, planned.joined.model, device)
    store = _Store(queue, cache or cache_directory(), progress)
    program = build_program(planned.plan, planned.joined.model, store.packed(planned))
    arrays = sample_inputs(program, seed)
    with nullcontext(runtime) if runtime else closing(open_runtime(device)) as runtime:
        try:
            result = runtime.run(program, store.paths(), arrays, progress=progress)
        except CacheCorrupt as damage:
            if say is not None:
                say(f"{damage.message}; it was made anew")
            store.discard()
            result = runtime.run(program, store.paths(), arrays, progress=progress)
        alone = _one_after_another(queue, planned.plan, runtime, arrays, store) if compare else ()
    return QueueOutcome(
        plan=planned,
        program=program,
        result=result,
        predicted=predict(program, device),
        places=tuple(_places(queue, planned, result, arrays, check=check)),
        alone=tuple(alone),
    )


@dataclass(frozen=True, slots=True)
class _Store:
    """The packed weights of a queue's models, made when they are missing."""

    queue: Queue
    folder: Path
    progress: Progress | None

    def files(self) -> list[Packed]:
        """One for each distinct model."""
        from flashmem_lab.program import pack_weights

        models = [prepared.model for prepared in self.queue.models]
        return [pack_weights(model, self.folder, progress=self.progress) for model in models]

    def paths(self) -> list[Path]:
        """Where they lie, as the spans of `packed` number them."""
        return [file.path for file in self.files()]

    def discard(self) -> None:
        """Deletes them, so that they are made anew."""
        from flashmem_lab.program import discard

        for file in self.files():
            discard(file)

    def packed(self, planned: QueuePlan) -> Packed:
        """All of them as the packed weights of the joined model."""
        from flashmem_lab.program import Packed

        files = self.files()
        spans = {}
        for joined, (place, name) in planned.joined.weights.items():
            at = self.queue.order[place]
            spans[joined] = replace(files[at].spans[name], file=at)
        return Packed(files[0].path, "+".join(file.key for file in files), spans)


def _places(
    queue: Queue,
    planned: QueuePlan,
    result: RunResult,
    arrays: Mapping[str, np.ndarray],
    *,
    check: bool,
) -> Iterator[Place]:
    from flashmem_lab.plan.timeline import Lane
    from flashmem_lab.workflow import checked

    starts = planned.joined.starts
    computed = [event for event in result.trace.timeline.events if event.lane is Lane.COMPUTE]
    layers = [event.layer for event in computed]
    for place, prepared in enumerate(queue.places):
        mine = [
            event
            for event, layer in zip(computed, layers, strict=True)
            if starts[place] <= layer < starts[place + 1] and event.kind != "stall"
        ]
        yield Place(
            model=prepared.model.name,
            start_ms=min(event.start_ns for event in mine) / 1e6,
            end_ms=max(event.end_ns for event in mine) / 1e6,
            check=checked(prepared, _of_place(arrays, place), _of_place(result.outputs, place))
            if check
            else None,
        )


def _of_place(arrays: Mapping[str, np.ndarray], place: int) -> dict[str, np.ndarray]:
    mark = f"{place}/"
    return {
        name.removeprefix(mark): array for name, array in arrays.items() if name.startswith(mark)
    }


def _one_after_another(
    queue: Queue,
    joint: Plan,
    runtime: Runtime,
    arrays: Mapping[str, np.ndarray],
    store: _Store,
) -> Iterator[Alone]:
    """What people do today, and the best that plans of single models can do under the cap."""
    from flashmem_lab.plan import Strategy
    from flashmem_lab.units import Budget

    cap = joint.budget_bytes
    for wanted in (Strategy.PRELOAD, Strategy.GREEDY):
        programs = {}
        for prepared in queue.models:
            strategy = wanted
            if strategy is Strategy.PRELOAD and _preload_peak(prepared, joint) > cap:
                strategy = Strategy.ALWAYS_NEXT
            plan = make_plan(
                prepared, budget=Budget(bytes=cap), strategy=strategy, transport=joint.transport
            )
            programs[id(prepared)] = compile_plan(prepared, plan, cache=store.folder)
        results = []
        for place, prepared in enumerate(queue.places):
            made = programs[id(prepared)]
            inputs = _of_place(arrays, place)
            results.append(runtime.run(made.program, made.packed.path, inputs))
        yield Alone(
            strategy=wanted.value,
            total_ms=sum(result.first_run_ms for result in results),
            peak_bytes=max(result.peak_bytes["total"] for result in results),
        )


def _preload_peak(prepared: Prepared, joint: Plan) -> int:
    from flashmem_lab.plan import bounds

    return bounds(prepared.model, prepared.device, joint.transport)[1]
