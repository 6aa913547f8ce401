"""The Plan value: which weight is resident from the start, and when every other one moves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flashmem_lab.device.spec import Transport
from flashmem_lab.plan.constraints import NO_CONSTRAINTS, Constraints
from flashmem_lab.shown import mimebundle
from flashmem_lab.units import format_bytes, format_ms


class Strategy(StrEnum):
    """Who made the plan."""

    LC_OPG = "lc-opg"
    GREEDY = "greedy"
    PRELOAD = "preload"
    ALWAYS_NEXT = "always-next"
    SAME_OP = "same-op"


class Objective(StrEnum):
    """What is made least within the budget."""

    MEMORY = "memory"
    COLD = "cold"
    WARM = "warm"


class Status(StrEnum):
    """What is known of the plan's quality."""

    OPTIMAL = "OPTIMAL"
    FEASIBLE = "FEASIBLE"
    GREEDY = "GREEDY"


@dataclass(frozen=True, slots=True)
class Move:
    """`chunks` chunks of a weight that move while layer `layer` runs (x[w, l] of the paper).

    With `inline` that layer's kernel moves them, except for the first `apart` of them: kernels of
    their own move those right before it.
    """

    layer: int
    chunks: int
    apart: int = 0


@dataclass(frozen=True, slots=True)
class StreamedWeight:
    """The life of one streamed weight.

    Attributes:
        weight: name.
        load_at: z_w, the layer at whose start its object is created and its disk read may begin.
        first_use: i_w. A move at layer i_w itself is a stall: nothing hides it.
        last_use: the object is freed when this layer has run.
        moves: chunks per layer, load_at <= layer <= first_use, in order.
    """

    weight: str
    load_at: int
    first_use: int
    last_use: int
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class OverCapacity:
    """Bytes that no layer hides, and the milliseconds for which layer `layer` waits for them."""

    layer: int
    bytes: int
    ms: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the simulator expects.

    Attributes:
        peak_bytes: exact; the runtime makes and frees objects in the plan's order.
        average_bytes: mean over the time of the cold run.
        cold_ms: plan and program ready, nothing on the device, to first output.
        warm_ms: a run once the preloaded weights are resident.
    """

    peak_bytes: int
    average_bytes: int
    cold_ms: float
    warm_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule of weights for one lowered model on one device under one budget.

    Attributes:
        model, fingerprint, precision: what it was made for; the runtime refuses anything else.
        device: DeviceSpec.id it was made for.
        strategy, optimize: who made it, for what.
        budget_bytes: the cap on everything the device holds at once.
        min_budget_bytes, preload_peak_bytes: the ends of the scale, same transport.
        transport, staging_bytes: how bytes move, and what the staging ring holds all along.
        chunk_bytes: size S of a chunk; the last one of a weight may be smaller.
        preloaded: W, in order of use; resident in every run once loaded.
        barrier: True if no layer starts before all of W is on the device (the paper's preload).
        streamed: the other weights, in order of use.
        preload_moves: for each of W the layers at which its chunks move in the first run; stated
            where kernels move them (`inline`), else empty.
        status, tier, objective, bound, gap: solver's statement; tier names the fallback taken.
        solve_ms, first_plan_ms: time to this plan and to the first valid one.
        predicted: from the simulator, with what the host takes besides (`told`), which objective
            and bound leave out.
        constraints: what was demanded of it.
        over_capacity: where a run with W resident asks for more than the load capacities.
        lambda_, mu: prices of pinned bytes and of prefetch distance.
        undone_fusions: values that fusion would not have stored; their layers were split for
            load capacity.
        fusion_gain: what undoing them took off the objective, in its unit.
    """

    model: str
    fingerprint: str
    precision: str
    device: str
    strategy: Strategy
    optimize: Objective
    budget_bytes: int
    min_budget_bytes: int
    preload_peak_bytes: int
    transport: Transport
    staging_bytes: int
    chunk_bytes: int
    preloaded: tuple[str, ...]
    barrier: bool
    streamed: tuple[StreamedWeight, ...]
    status: Status
    tier: str
    objective: float
    bound: float
    gap: float
    solve_ms: float
    first_plan_ms: float
    predicted: Prediction
    constraints: Constraints = NO_CONSTRAINTS
    over_capacity: tuple[OverCapacity, ...] = ()
    lambda_: float = 0.9
    mu: float = 0.1
    undone_fusions: tuple[str, ...] = ()
    fusion_gain: float = 0.0
    preload_moves: tuple[tuple[Move, ...], ...] = ()

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        expected = self.predicted
        return mimebundle(
            f"Plan of {self.model} on {self.device}",
            f"peak {format_bytes(expected.peak_bytes)} within {format_bytes(self.budget_bytes)}, "
            f"first run {format_ms(expected.cold_ms)}, later runs {format_ms(expected.warm_ms)}",
            [
                ("strategy", f"{self.strategy.value} for {self.optimize.value}, {self.status}"),
                ("weights", f"{len(self.preloaded)} preloaded, {len(self.streamed)} streamed"),
                (
                    "scale",
                    f"{format_bytes(self.min_budget_bytes)} (least feasible) to "
                    f"{format_bytes(self.preload_peak_bytes)} (full preload)",
                ),
                ("transport", f"{self.transport.value}, {self.precision} weights"),
                ("planned in", format_ms(self.solve_ms)),
            ],
        )
