"""Adaptive fusion: which fused layers to split where load capacity runs out (FlashMem paper).

A fused layer hides about as much as its least hiding part; split, each part hides its own share.
What a split costs is an intermediate value in memory, and one step more for whatever waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.lower.layer import Layer, LoweredModel, OperatorClass, Part
from flashmem_lab.plan.plan import Plan
from flashmem_lab.plan.problem import build_problem, held_between
from flashmem_lab.plan.room import residency
from flashmem_lab.plan.score import Prices

ALPHA = 0.1
"""Both halves must hide at least 1 + ALPHA times what the whole layer hides."""

AT_ONCE = 16
"""Splits that are made before planning again."""


@dataclass(frozen=True, slots=True)
class Split:
    """A cut of a fused layer.

    Attributes:
        layer: its index.
        value: what to keep in memory, for `lower(..., unfused={value})`.
        gain: bytes that the halves hide beyond what the layer does.
        penalty: lambda times the bytes that no longer fit, plus mu times the bytes that wait a
            step more, per step of the run.
    """

    layer: int
    value: str
    gain: float
    penalty: float


def splits(
    plan: Plan, model: LoweredModel, device: DeviceSpec, prices: Prices
) -> tuple[Split, ...]:
    """The cheapest cuts for their gain before the last layer whose loads exceed capacity.

    Hierarchical layers stay whole: they hide nothing, and what follows their reduction needs it.

    Args:
        plan: for this model.
        model: fused layers name their parts.
        device: where.
        prices: lambda and mu.
    """
    if not plan.over_capacity:
        return ()
    problem = build_problem(model, device, plan.transport, chunk_bytes=plan.chunk_bytes)
    pinned, load_at = problem.mask(plan.preloaded), problem.first.copy()
    for weight in plan.streamed:
        load_at[problem.index[weight.weight]] = weight.load_at
    held = residency(problem, pinned, load_at)
    moving = ~pinned
    waiting = held_between(
        load_at[moving], problem.first[moving], problem.size[moving], len(model.layers)
    )
    last = max(over.layer for over in plan.over_capacity)
    found: dict[str, Split] = {}
    for layer in model.layers[:last]:
        room = plan.budget_bytes - int(held[layer.index])
        waits = int(waiting[layer.index]) / len(model.layers)
        whole = float(problem.capacity[layer.index])
        for value, gain, kept in _cuts(layer, whole, problem.rate, device):
            misfit = max(0, kept - room)
            penalty = prices.lambda_ * misfit + prices.mu * waits
            # Tiles of one operation are split together: their gains add up.
            before = found.get(value, Split(layer.index, value, 0.0, 0.0))
            found[value] = Split(before.layer, value, before.gain + gain, before.penalty + penalty)
    worth = sorted(found.values(), key=lambda split: (split.penalty / split.gain, -split.gain))
    # One cut a layer at a time: a second one would be of a layer that is no longer there.
    chosen: dict[int, Split] = {}
    for split in worth:
        chosen.setdefault(split.layer, split)
    return tuple(list(chosen.values())[:AT_ONCE])


def _cuts(
    layer: Layer, whole: float, rate: float, device: DeviceSpec
) -> Iterator[tuple[str, float, int]]:
    """(value, bytes gained, bytes of the value) of each cut that passes the alpha test.

    Args:
        layer: fused, or not.
        whole: bytes that it hides.
        rate: of the lane, bytes/s.
        device: where.
    """
    if layer.op_class is OperatorClass.HIERARCHICAL:
        return
    for at in range(1, len(layer.parts)):
        halves = sum(_hides(parts, rate, device) for parts in (layer.parts[:at], layer.parts[at:]))
        if halves >= (1 + ALPHA) * whole:
            yield layer.parts[at - 1].value, halves - whole, layer.parts[at - 1].bytes_written


def _hides(parts: Sequence[Part], rate: float, device: DeviceSpec) -> float:
    """C_l of a layer of these parts: it is of the class of what is not elementwise in it."""
    anchor = next((one for one in parts if one.op_class is not OperatorClass.ELEMENTAL), parts[0])
    name = anchor.op_class.value
    traffic = sum(part.bytes_read + part.bytes_written for part in parts)
    lasts_ns = device.layer_ns(name, anchor.kind, sum(part.flops for part in parts), traffic)
    return lasts_ns * (1 + device.slack[name].value) * rate / 1e9
