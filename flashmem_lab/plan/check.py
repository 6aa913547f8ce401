"""An independent check of any plan, from whatever source: it shares no code with the planners."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import LoweredModel, Storage
from flashmem_lab.plan.check_inline import ANEW, check_carried, may_hide
from flashmem_lab.plan.plan import Plan, StreamedWeight
from flashmem_lab.units import format_bytes

TIERS = ("", "stall-loads", "soft-capacity", "preload", "greedy")
"""What a plan may have fallen back to."""


def check_plan(plan: Plan, model: LoweredModel, device: DeviceSpec) -> None:
    """Verifies that `plan` is for `model` on `device`, moves every weight in time, fits its budget.

    Checked: identity; W and the streamed weights are a partition of the weights; first and last
    uses; C0, every chunk moves exactly once; C1, none before its object exists or after its use;
    the staging ring; residency at every layer (the paper's C2, exactly) against the budget; the
    stated peak and the ends of the budget scale; the plan's constraints; and that it states every
    layer at which it asks for more than the load capacity (C3), to the byte.

    Raises:
        PlanError: a rule is broken; the message has the layer or weight and the figures.
    """
    _check_identity(plan, model, device)
    _check_fusions(plan, model)
    uses = _uses(model)
    _check_partition(plan, uses)
    _check_constraints(plan)
    for weight in plan.streamed:
        _check_life(weight, uses[weight.weight], plan, model)
    _check_staging(plan, model, uses)
    check_carried(plan, model)
    _check_memory(plan, model, uses)
    _check_capacity(plan, model, device, uses)


@dataclass(frozen=True, slots=True)
class _Use:
    first: int
    last: int
    bytes: int


def _fail(message: str, hint: str = ANEW) -> PlanError:
    return PlanError(message, hint=hint)


def _check_identity(plan: Plan, model: LoweredModel, device: DeviceSpec) -> None:
    if plan.model != model.name or plan.fingerprint != model.fingerprint:
        raise _fail(
            f"the plan was made for {plan.model!r} ({plan.fingerprint[:12]}), this is "
            f"{model.name!r} ({model.fingerprint[:12]}): another model or other shapes"
        )
    if plan.precision != model.precision.value:
        raise _fail(
            f"the plan was made for {plan.precision} weights, not for {model.precision.value}",
            f"--precision {plan.precision}, or make the plan anew",
        )
    if plan.device != device.id:
        raise _fail(
            f"the plan was made for device {plan.device!r}, not for {device.id!r}",
            f"--device {plan.device}, or make the plan anew",
        )


def _check_fusions(plan: Plan, model: LoweredModel) -> None:
    if plan.undone_fusions != model.unfused:
        raise _fail(
            f"the plan was made with {len(plan.undone_fusions)} fusions undone "
            f"({', '.join(plan.undone_fusions[:3]) or 'none'}), the model is lowered with "
            f"{len(model.unfused)} ({', '.join(model.unfused[:3]) or 'none'})",
            "lower the model as the plan says: flashmem_lab.workflow.fitted",
        )


def _uses(model: LoweredModel) -> dict[str, _Use]:
    """First and last layer of every weight that the device holds."""
    layers: dict[str, list[int]] = {}
    for index, layer in enumerate(model.layers):
        for name in layer.weights:
            layers.setdefault(name, []).append(index)
    return {
        name: _Use(min(indices), max(indices), model.weights[name].packed_bytes)
        for name, indices in layers.items()
        if model.weights[name].storage is not Storage.HOST
    }


def _check_partition(plan: Plan, uses: dict[str, _Use]) -> None:
    seen: set[str] = set()
    for name in [*plan.preloaded, *(weight.weight for weight in plan.streamed)]:
        if name not in uses:
            raise _fail(f"the plan moves {name!r}, which no layer uses from the device")
        if name in seen:
            raise _fail(f"the plan moves {name!r} twice")
        seen.add(name)
    forgotten = [name for name in uses if name not in seen]
    if forgotten:
        raise _fail(
            f"the plan never loads {forgotten[0]!r}, used by layer {uses[forgotten[0]].first}"
            f" ({len(forgotten)} weights in all)"
        )


def _check_constraints(plan: Plan) -> None:
    if plan.tier not in TIERS:
        raise _fail(f"the plan says that it fell back to {plan.tier!r}, which is no tier")
    pinned = set(plan.preloaded)
    for name in plan.constraints.preload:
        if name not in pinned:
            raise _fail(f"{name!r} must be preloaded, but the plan streams it")
    for name in plan.constraints.stream:
        if name in pinned:
            raise _fail(f"{name!r} must be streamed, but the plan preloads it")
    loads = {weight.weight: weight.load_at for weight in plan.streamed}
    for window in plan.constraints.windows:
        begin = loads.get(window.weight)
        if begin is None or not window.first <= begin <= window.last:
            where = "before layer 0" if begin is None else f"at layer {begin}"
            raise _fail(
                f"the load of {window.weight!r} must begin at layers {window.first} to "
                f"{window.last}; the plan begins it {where}"
            )


def _check_life(weight: StreamedWeight, use: _Use, plan: Plan, model: LoweredModel) -> None:
    name = weight.weight
    if (weight.first_use, weight.last_use) != (use.first, use.last):
        raise _fail(
            f"the plan says layers {weight.first_use} to {weight.last_use} use {name!r}; "
            f"the model says {use.first} to {use.last}"
        )
    if not 0 <= weight.load_at <= use.first:
        raise _fail(
            f"{name!r} is created at layer {weight.load_at}, outside 0 to its use at {use.first}"
        )
    before = -1
    for move in weight.moves:
        if not max(weight.load_at, before + 1) <= move.layer <= use.first:
            raise _fail(
                f"a move of {name!r} at layer {move.layer} is out of order, or outside layers "
                f"{weight.load_at} (created) to {use.first} (used)"
            )
        if move.chunks < 1:
            raise _fail(f"{name!r} moves {move.chunks} chunks at layer {move.layer}")
        before = move.layer
    moved = sum(move.chunks for move in weight.moves)
    chunks = len(model.weights[name].chunks(plan.chunk_bytes))
    if moved != chunks:
        raise _fail(f"{moved} chunks of {name!r} move; it has {chunks}")


def _check_staging(plan: Plan, model: LoweredModel, uses: dict[str, _Use]) -> None:
    if plan.chunk_bytes < 1:
        raise _fail(f"chunks of {plan.chunk_bytes} bytes")
    if plan.transport is Transport.MAP:
        if plan.staging_bytes:
            raise _fail(f"a ring of {plan.staging_bytes} bytes, though map needs none")
        return
    largest = max(
        (
            rows * model.weights[name].row_bytes
            for name in uses
            for _, rows in model.weights[name].chunks(plan.chunk_bytes)
        ),
        default=0,
    )
    if plan.staging_bytes < largest:
        raise _fail(
            f"the staging ring has {plan.staging_bytes} bytes, the largest chunk has {largest}"
        )


def _check_memory(plan: Plan, model: LoweredModel, uses: dict[str, _Use]) -> None:
    activations = [0] * len(model.layers)
    touched: dict[str, list[int]] = {}
    for index, layer in enumerate(model.layers):
        for buffer in (*layer.reads, *layer.writes):
            touched.setdefault(buffer, []).append(index)
    for buffer, indices in touched.items():
        for index in range(min(indices), max(indices) + 1):
            activations[index] += model.buffers[buffer]
    pinned = sum(uses[name].bytes for name in plan.preloaded)
    held = [plan.staging_bytes + pinned + activation for activation in activations]
    for weight in plan.streamed:
        for index in range(weight.load_at, weight.last_use + 1):
            held[index] += uses[weight.weight].bytes
    for index, total in enumerate(held):
        if total > plan.budget_bytes:
            raise _fail(
                f"at layer {index} ({model.layers[index].name!r}) the plan holds {total} bytes "
                f"({format_bytes(total)}), {total - plan.budget_bytes} more than its budget of "
                f"{plan.budget_bytes}"
            )
    if plan.predicted.peak_bytes != max(held):
        raise _fail(
            f"the plan states a peak of {plan.predicted.peak_bytes} bytes; it is {max(held)}"
        )
    everything = plan.staging_bytes + max(activations) + sum(use.bytes for use in uses.values())
    if plan.preload_peak_bytes != everything:
        raise _fail(
            f"the plan states {plan.preload_peak_bytes} bytes for full preload; it is {everything}"
        )
    if not plan.min_budget_bytes <= min(plan.budget_bytes, everything):
        raise _fail(
            f"the plan states a least budget of {plan.min_budget_bytes} bytes, above its own "
            f"budget of {plan.budget_bytes} or above full preload ({everything})"
        )


def _check_capacity(
    plan: Plan, model: LoweredModel, device: DeviceSpec, uses: dict[str, _Use]
) -> None:
    """Moves every byte as early as the plan allows, in order of use, and looks what is left.

    While layer l runs, and as much longer as its class lets loading stretch it, the slower lane
    moves C_l bytes.
    """
    rate = device.reading(cold=False, transport=plan.transport).disk.value
    if plan.transport is not Transport.MAP:
        rate = min(rate, device.upload.value)
    order = sorted(plan.streamed, key=lambda weight: weight.first_use)
    if list(plan.streamed) != order:
        raise _fail("the streamed weights are not in order of use")
    left = {weight.weight: float(uses[weight.weight].bytes) for weight in order}
    stated = {over.layer: over for over in plan.over_capacity}
    waiting, moving = deque(order), deque(order)
    for index, layer in enumerate(model.layers):
        late = 0.0
        while waiting and waiting[0].first_use == index:
            late += left[waiting.popleft().weight]
        claim = stated.pop(index, None)
        claimed = claim.bytes if claim else 0
        if abs(late - claimed) > 2 + 1e-9 * late:  # rounding
            raise _fail(
                f"the plan states that {claimed} bytes exceed the load capacity before layer "
                f"{index} ({layer.name!r}); it is {late:.0f}"
            )
        if claim and abs(claim.ms - late / rate * 1e3) > 1e-6 + 1e-6 * claim.ms:
            raise _fail(f"the plan states a wait of {claim.ms} ms before layer {index}")
        lasts_ns = device.layer_ns(
            layer.op_class.value, layer.kind, layer.flops, layer.bytes_read + layer.bytes_written
        )
        stretched_ns = lasts_ns * (1 + device.slack[layer.op_class.value].value)
        capacity = stretched_ns / 1e9 * rate
        if plan.transport is Transport.INLINE and not may_hide(layer, device):
            capacity = 0.0
        while moving and moving[0].load_at <= index and capacity > 0:
            name = moving[0].weight
            moved = 0.0 if moving[0].first_use <= index else min(capacity, left[name])
            left[name] -= moved
            capacity -= moved
            if moving[0].first_use <= index or left[name] <= 0:
                moving.popleft()
    if stated:
        raise _fail(f"the plan states a wait before layer {min(stated)}, which does not exist")
