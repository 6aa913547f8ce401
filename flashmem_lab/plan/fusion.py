"""Adaptive fusion: which fused layers to split where load capacity runs out (FlashMem paper).

A fused layer hides about as much as its least hiding part; split, each part hides its own share.
What a split costs is an intermediate value in memory, and one step more for whatever waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.lower.layer import Layer, LoweredModel, OperatorClass, Part
from flashmem_lab.plan.plan import Plan
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
    held, waiting = _held(plan, model)
    last = max(over.layer for over in plan.over_capacity)
    found: dict[str, Split] = {}
    for layer in model.layers[:last]:
        room = plan.budget_bytes - held[layer.index]
        for value, gain, kept in _cuts(layer, device):
            misfit = max(0, kept - room)
            waits = waiting[layer.index] / len(model.layers)
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


def _cuts(layer: Layer, device: DeviceSpec) -> Iterator[tuple[str, float, int]]:
    """(value, bytes gained, bytes of the value) of each cut that passes the alpha test."""
    if layer.op_class is OperatorClass.HIERARCHICAL or len(layer.parts) < 2:
        return
    whole = _capacity(layer.op_class, layer.flops, layer.bytes_read + layer.bytes_written, device)
    for at in range(1, len(layer.parts)):
        halves = sum(_hides(parts, device) for parts in (layer.parts[:at], layer.parts[at:]))
        if halves >= (1 + ALPHA) * whole:
            yield layer.parts[at - 1].value, halves - whole, layer.parts[at - 1].bytes_written


def _hides(parts: Iterable[Part], device: DeviceSpec) -> float:
    parts = list(parts)
    classes = [part.op_class for part in parts]
    anchors = [one for one in classes if one is not OperatorClass.ELEMENTAL]
    return _capacity(
        anchors[0] if anchors else OperatorClass.ELEMENTAL,
        sum(part.flops for part in parts),
        sum(part.bytes_read + part.bytes_written for part in parts),
        device,
    )


def _capacity(op_class: OperatorClass, flops: int, moved: int, device: DeviceSpec) -> float:
    """C_l of a layer, bytes."""
    seconds = max(flops / device.compute[op_class.value].value, moved / device.memory.value)
    seconds += device.launch_ns.value / 1e9
    rate = min(device.disk.value, device.upload.value)
    return seconds * (1 + device.slack[op_class.value].value) * rate


def _held(plan: Plan, model: LoweredModel) -> tuple[list[int], list[int]]:
    """Bytes held, and bytes that wait for a later layer, at each layer."""
    steps = len(model.layers)
    kept = sum(model.weights[name].device_bytes for name in plan.preloaded)
    held, waiting = [plan.staging_bytes + kept] * steps, [0] * steps
    for name, (first, last) in model.lifetimes().items():
        for at in range(first, last + 1):
            held[at] += model.buffers[name]
    for weight in plan.streamed:
        size = model.weights[weight.weight].device_bytes
        for at in range(weight.load_at, weight.last_use + 1):
            held[at] += size
        for at in range(weight.load_at, weight.first_use):
            waiting[at] += size
    return held, waiting
