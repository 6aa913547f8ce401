"""From options to the values of the workflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from flashmem_lab import workflow
from flashmem_lab.cli.parser import Options
from flashmem_lab.cli.targets import refuse_targets
from flashmem_lab.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from flashmem_lab.device import DeviceSpec, Transport
    from flashmem_lab.lower import Precision, Storage
    from flashmem_lab.plan import Constraints, Effort, Objective, Plan, Prices, Strategy
    from flashmem_lab.trace import Trace


def prepare(
    options: Options, device: DeviceSpec, *, precision: str = "fp32"
) -> tuple[workflow.Prepared, dict[str, np.ndarray]]:
    """The model of the options, lowered for `device`, and the input arrays that were given.

    Args:
        options: of a command with a model.
        device: where it is to run.
        precision: what is meant where the options do not say.

    Raises:
        UsageError: what the options want written is a file that holds weights of the model.
    """
    from flashmem_lab.arrays import read_inputs

    inputs = read_inputs(dict(options.input))
    prepared = opened(
        options,
        options.model,
        device,
        precision=precision,
        dims=dict(options.dim),
        shapes={**{name: array.shape for name, array in inputs.items()}, **dict(options.shape)},
    )
    refuse_targets(options, {ref.file for ref in prepared.graph.weights.values()})
    return prepared, inputs


def opened(
    options: Options,
    path: Path,
    device: DeviceSpec,
    *,
    dims: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    precision: str = "fp32",
) -> workflow.Prepared:
    """One model, lowered for `device` in the precision and storage that the options ask for."""
    how = lowering(options, precision=precision)
    return workflow.load(path, device=device, dims=dims, shapes=shapes, **how._asdict())


class Lowering(NamedTuple):
    """How weights are held; see `workflow.load`."""

    precision: Precision
    storage: Storage | None


def lowering(options: Options, *, precision: str = "fp32") -> Lowering:
    """What the options say of how weights are held; `precision` where they do not."""
    from flashmem_lab.lower import Precision, Storage

    storage = None if options.storage == "auto" else Storage(options.storage)
    return Lowering(Precision(options.precision or precision), storage)


def make_plan(options: Options, prepared: workflow.Prepared) -> Plan:
    """The plan that the options ask for."""
    how = asked(options)
    if options.mu is not None:
        how = how._replace(prices=replace(how.prices, mu=options.mu))
    return workflow.make_plan(
        prepared, budget=options.budget, split_fused=options.split_fused, **how._asdict()
    )


class Asked(NamedTuple):
    """What plans of one model have in common, whatever their budgets; see `workflow.make_plan`."""

    strategy: Strategy
    optimize: Objective
    constraints: Constraints
    transport: Transport | None
    chunk_bytes: int
    prices: Prices
    effort: Effort


def asked(options: Options) -> Asked:
    """What the options say of how to plan; what they do not say is the planner's default."""
    from flashmem_lab.device import Transport
    from flashmem_lab.plan import Constraints, Effort, Objective, Prices, Strategy, Window
    from flashmem_lab.plan.chunks import CHUNK_BYTES

    tried = {"time_s": options.time_limit, "workers": options.workers}
    return Asked(
        strategy=Strategy(options.strategy or Strategy.GREEDY),
        optimize=Objective(options.optimize or Objective.COLD),
        constraints=Constraints(
            preload=tuple(options.preload),
            stream=tuple(options.stream),
            windows=tuple(Window(*window) for window in options.window),
        ),
        transport=Transport(options.transport) if options.transport else None,
        chunk_bytes=CHUNK_BYTES if options.chunk is None else options.chunk,
        prices=Prices() if options.lambda_ is None else Prices(lambda_=options.lambda_),
        effort=Effort(**{name: value for name, value in tried.items() if value is not None}),
    )


OF_MAKING = ("stream", "window", "chunk", "lambda_", "mu", "time_limit", "workers", "split_fused")
"""Options that only say how to make a plan, as the parser names them."""


def given(options: Options, names: Iterable[str]) -> list[str]:
    """Those of the named options that were given, as people write them."""
    values = {name: getattr(options, name) for name in names}
    return [
        name.strip("_").replace("_", "-")
        for name, value in values.items()
        if not (value is None or value is False or value == [])  # 0 was given
    ]


class Planned(NamedTuple):
    """What a run or a bundle is made from; `plan_ms` is what making the plan, or reading it, took.

    A plan's own `solve_ms` is of the process that made it, perhaps on another day.
    """

    prepared: workflow.Prepared
    inputs: dict[str, np.ndarray]
    plan: Plan
    plan_ms: float


def planned(options: Options) -> Planned:
    """Model, inputs and plan, the plan from its file or made for the budget.

    Raises:
        UsageError: an option contradicts the plan file.
    """
    if options.plan is None:
        device = workflow.open_device(options.device or "auto")
        prepared, inputs = prepare(options, device)
        began = perf_counter()
        made = make_plan(options, prepared)
        plan_ms = (perf_counter() - began) * 1e3
        return Planned(workflow.fitted(prepared, made), inputs, made, plan_ms)
    began = perf_counter()
    plan = workflow.load_plan(options.plan)
    plan_ms = (perf_counter() - began) * 1e3
    for name in ("strategy", "optimize", "transport"):
        wanted, made = getattr(options, name), getattr(plan, name)
        if wanted is not None and wanted != made:
            raise UsageError(
                f"--{name} {wanted} contradicts {options.plan}, which was made for {made}",
                hint=f"leave --{name} out, or give --budget instead of --plan",
            )
    if missing := [name for name in options.preload if name not in plan.preloaded]:
        raise UsageError(
            f"--preload {missing[0]} contradicts {options.plan}, which streams it",
            hint="leave --preload out, or give --budget instead of --plan",
        )
    for option in given(options, OF_MAKING):
        raise UsageError(
            f"--{option} is for making a plan; {options.plan} is made already",
            hint=f"leave --{option} out, or give --budget instead of --plan",
        )
    device = workflow.open_device(options.device or plan.device)
    prepared, inputs = prepare(options, device, precision=plan.precision)
    return Planned(workflow.fitted(prepared, plan), inputs, plan, plan_ms)


def save_trace(trace: Trace, path: Path) -> None:
    """Writes a trace in the format that the file's name ends in."""
    from flashmem_lab.trace import write_chrome, write_csv, write_perfetto

    write = {".pftrace": write_perfetto, ".json": write_chrome, ".csv": write_csv}
    write[path.suffix](trace, path)
