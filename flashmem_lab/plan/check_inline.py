"""The part of the plan check that looks at what kernels carry (`inline`)."""

from __future__ import annotations

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import KernelCall, Layer, LoweredModel
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.plan.plan import Move, Plan

ANEW = "make the plan anew: flashmem-lab plan MODEL --device D --budget ..."
"""What helps with most plans that break a rule."""


def may_hide(layer: Layer, device: DeviceSpec) -> bool:
    """Whether the layer has a kernel, of a class that leaves room for moves beside its work."""
    return isinstance(layer.work, KernelCall) and device.slack[layer.op_class.value].value > 0


def check_carried(plan: Plan, model: LoweredModel) -> None:
    """Chunks of W move once, too; kernels carry them, few enough at once, in the order of reads.

    Raises:
        PlanError: a rule is broken.
    """
    if plan.transport is not Transport.INLINE:
        if plan.preload_moves:
            raise _fail(f"the plan states moves of W, which {plan.transport} does by itself")
        return
    if len(plan.preload_moves) != len(plan.preloaded):
        raise _fail("the plan does not state the moves of each weight of W")
    firsts = {name: first for name, (first, _) in model.weight_uses().items()}
    kept = [
        (name, 0 if plan.barrier else firsts[name], 0, moves)
        for name, moves in zip(plan.preloaded, plan.preload_moves, strict=True)
    ]
    streamed = [(one.weight, one.first_use, one.load_at, one.moves) for one in plan.streamed]
    for name, needed, _, moves in kept:
        _check_whole(name, needed, moves, len(model.weights[name].chunks(plan.chunk_bytes)))
    carried = [0] * len(model.layers)
    for _, needed, _, moves in (*kept, *streamed):
        for move in moves:
            if not (0 <= move.apart <= move.chunks and (move.layer < needed or move.apart)):
                raise _fail(f"layer {move.layer} cannot carry {move.chunks - move.apart} chunks")
            carried[move.layer] += move.chunks - move.apart
    slots = _slots(plan, model)
    for layer, chunks in zip(model.layers, carried, strict=True):
        if chunks and not isinstance(layer.work, KernelCall):
            raise _fail(
                f"layer {layer.index} ({layer.name!r}) is no kernel, and is to move weights"
            )
        if chunks > min(CARRIED, slots):
            raise _fail(
                f"layer {layer.index} ({layer.name!r}) is to carry {chunks} chunks; {CARRIED} at "
                f"most, and no more than the {slots} slots of the ring"
            )
    # Slots are emptied in the order of reads: by use, by creation, W first, as the model has them.
    place = {name: at for at, name in enumerate(model.weights)}
    order = sorted(
        [(needed, 0, 0, place[name], moves) for name, needed, _, moves in kept]
        + [(needed, load, 1, place[name], moves) for name, needed, load, moves in streamed],
        key=lambda one: one[:4],
    )
    newest = (0, False)  # what the layer carries moves behind what moves apart
    for *_, moves in order:
        for move in moves:
            if (move.layer, not move.apart) < newest:
                raise _fail(f"at layer {newest[0]} a chunk moves before one that is read earlier")
            newest = (move.layer, move.chunks > move.apart)


def _check_whole(name: str, needed: int, moves: tuple[Move, ...], chunks: int) -> None:
    before = -1
    for move in moves:
        if not before < move.layer <= needed or move.chunks < 1:
            raise _fail(f"a move of {name!r} at layer {move.layer} is out of order or too late")
        before = move.layer
    moved = sum(move.chunks for move in moves)
    if moved != chunks:
        raise _fail(f"{moved} chunks of {name!r} move; it has {chunks}")


def _slots(plan: Plan, model: LoweredModel) -> int:
    """Slots of the ring; each has the size of the largest chunk."""
    largest = max(
        (
            rows * model.weights[name].row_bytes
            for name in model.weight_uses()
            if model.weights[name].device_bytes
            for _, rows in model.weights[name].chunks(plan.chunk_bytes)
        ),
        default=1,
    )
    return plan.staging_bytes // largest


def _fail(message: str) -> PlanError:
    return PlanError(message, hint=ANEW)
