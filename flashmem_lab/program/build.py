"""Plan -> Program: commands in lanes, with the dependencies that hold the budget.

Why no program of a valid plan can block. Say layer s is the first that cannot start. Its objects
are created at steps up to s, and memory commands before those are frees after layers below s,
which have run; so every allocation of a step up to s happens. It lacks an upload, hence a read,
of a weight first used at s. The disk lane is sorted by first use, so each read before that one
in the lane is of a weight first used, and therefore created, at step s or before: none waits for
a later step. The transfer lane follows the order of the reads, and a staging slot waits only
for an upload of an earlier read. So the read happens, and layer s starts. With `inline` a slot
waits for a compute command instead: one that carries an earlier chunk, and which comes before s or
is the one that waits. No command carries more chunks than there are slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import ModelError, PlanError
from flashmem_lab.lower.layer import LoweredModel, Storage
from flashmem_lab.plan.plan import Plan
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.carry import carried_chunks
from flashmem_lab.program.check import check_program
from flashmem_lab.program.lanes import (
    ComputeLane,
    Renderer,
    disk_lane,
    slot_size,
    transfer_lane,
)
from flashmem_lab.program.packed import Packed
from flashmem_lab.program.program import (
    Alloc,
    DeviceObject,
    Free,
    LayerCost,
    MemoryCommand,
    ObjectKind,
    Program,
)


@dataclass(frozen=True, slots=True)
class _Life:
    """When a device object is held.

    Attributes:
        created: the step at whose start it is made.
        needed: the first layer that uses it.
        last: the layer after which it is freed; no meaning for what is kept.
        kept: made once, in the first run, and not freed.
    """

    created: int
    needed: int
    last: int
    kept: bool = False


def build_program(
    plan: Plan, model: LoweredModel, packed: Packed, *, renderer: Renderer | None = None
) -> Program:
    """The commands that carry out `plan`; checked by `check_program` before they are returned.

    Args:
        plan: for this model and precision.
        model: what runs.
        packed: its packed weights.
        renderer: makes OpenCL C of a kernel call; the templates of kernels/ by default.

    Raises:
        PlanError: the plan is for another model or precision, names other weights than the
            model has, has layers carry what they cannot, or breaks its own budget.
        ModelError: an output is not made by any layer.
    """
    if renderer is None:
        # Reading a bundle needs no templates, so the package is imported without Jinja.
        from flashmem_lab.program.render import render

        renderer = render
    _check_match(plan, model, packed)
    weights = _weight_lives(plan, model)
    buffers = {
        name: _Life(created=first, needed=first, last=last)
        for name, (first, last) in model.lifetimes().items()
    }
    clash = weights.keys() & buffers.keys()
    if clash:
        raise ModelError(f"{min(clash)!r} names both a weight and an activation buffer")
    ids = count()
    allocs = _allocs(ids, weights, buffers)
    alloc_ids = {alloc.object: alloc.id for alloc in allocs}
    # The paper's preload reads all of W first, whatever else is to come.
    order = weights if plan.barrier else _in_order_of_use(weights)
    disk = disk_lane(ids, plan, model, order, alloc_ids)
    slot_bytes = slot_size(plan, disk)
    transfer = transfer_lane(ids, plan, disk)
    objects = _objects(model, weights, buffers)
    carried = None
    if plan.transport is Transport.INLINE:
        carried = carried_chunks(plan, weights, transfer, objects, packed.spans)
    lane = ComputeLane(ids, transfer, alloc_ids, renderer, carried)
    lane.add_layers(model, barrier=plan.preloaded if plan.barrier else ())
    memory = _memory(ids, allocs, {**weights, **buffers}, lane.last_touch, len(model.layers))
    program = Program(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device=plan.device,
        strategy=plan.strategy.value,
        budget_bytes=plan.budget_bytes,
        transport=plan.transport,
        staging_bytes=plan.staging_bytes,
        slot_bytes=slot_bytes,
        barrier=plan.barrier,
        objects=objects,
        spans={name: packed.spans[name] for name in model.weights},
        weights_key=packed.key,
        memory=memory,
        disk=disk,
        transfer=transfer,
        compute=tuple(lane.commands),
        kernels=tuple(lane.kernels),
        layers=tuple(layer.name for layer in model.layers),
        inputs=model.inputs,
        outputs=model.outputs,
        predicted_peak_bytes=plan.staging_bytes + _highest(memory, objects),
        costs=tuple(
            LayerCost(
                op_class=layer.op_class.value,
                flops=layer.flops,
                bytes=layer.bytes_read + layer.bytes_written,
                kind=layer.kind,
            )
            for layer in model.layers
        ),
    )
    check_program(program)
    return program


# --- what the plan says, held against the model --------------------------------------------


def _check_match(plan: Plan, model: LoweredModel, packed: Packed) -> None:
    if plan.fingerprint != model.fingerprint:
        raise PlanError(
            f"the plan was made for another model or other shapes ({plan.model!r})",
            hint=f"make a plan for {model.name!r}: flashmem-lab plan MODEL ...",
        )
    if plan.precision != model.precision.value:
        raise PlanError(
            f"the plan was made for {plan.precision} weights, not for {model.precision.value}",
            hint=f"--precision {plan.precision}, or make the plan anew",
        )
    missing = [name for name in model.weights if name not in packed.spans]
    if missing:
        raise PlanError(
            f"the packed weights are of another model: {missing[0]!r} is not among them",
            hint="pack the weights of this model",
        )


def _weight_lives(plan: Plan, model: LoweredModel) -> dict[str, _Life]:
    """When each weight is held: preloaded ones, then streamed ones, each in order of use.

    Weights first used by one layer keep the model's order, whatever the plan's.
    """
    uses = model.weight_uses()
    named = [*plan.preloaded, *(item.weight for item in plan.streamed)]
    odd = set(named) ^ set(uses)
    if odd or len(named) != len(uses):
        what = f"{min(odd)!r} among them" if odd else "one is named twice"
        raise PlanError(f"plan and model do not have the same weights ({what})")
    kept = {name: _Life(0, *uses[name], kept=True) for name in plan.preloaded}
    streamed: dict[str, _Life] = {}
    for item in plan.streamed:
        life = _Life(item.load_at, *uses[item.weight])
        if (item.first_use, item.last_use) != (life.needed, life.last):
            raise PlanError(f"the plan says other layers use {item.weight!r} than the model")
        if not 0 <= life.created <= life.needed:
            raise PlanError(f"the plan loads {item.weight!r} after its first use")
        streamed[item.weight] = life
    lives = {**kept, **streamed}
    in_order = _in_order_of_use({name: lives[name] for name in model.weights if name in lives})
    return dict(sorted(in_order.items(), key=lambda item: not item[1].kept))


def _in_order_of_use(lives: Mapping[str, _Life]) -> dict[str, _Life]:
    """By first use; what one layer uses first, by creation, kept ones first (as the simulator)."""

    def key(item: tuple[str, _Life]) -> tuple[int, int, bool]:
        life = item[1]
        return (life.needed, life.created, not life.kept)

    return dict(sorted(lives.items(), key=key))


# --- memory --------------------------------------------------------------------------------


def _allocs(
    ids: Iterator[int], weights: Mapping[str, _Life], buffers: Mapping[str, _Life]
) -> list[Alloc]:
    """By step; within a step kept weights, streamed weights in order of use, then buffers."""
    lives = sorted([*weights.items(), *buffers.items()], key=lambda item: item[1].created)
    return [Alloc(next(ids), name, life.created, life.kept) for name, life in lives]


def _memory(
    ids: Iterator[int],
    allocs: Iterable[Alloc],
    lives: Mapping[str, _Life],
    last_touch: Mapping[str, int],
    layers: int,
) -> tuple[MemoryCommand, ...]:
    """The total order: allocations of step 0, frees after layer 0, allocations of step 1, ..."""
    at_step: list[list[Alloc]] = [[] for _ in range(layers)]
    after_step: list[list[str]] = [[] for _ in range(layers)]
    for alloc in allocs:
        at_step[alloc.step].append(alloc)
    for name, life in lives.items():
        if not life.kept:
            after_step[life.last].append(name)
    order: list[MemoryCommand] = []
    for step in range(layers):
        order += at_step[step]
        order += [Free(next(ids), name, step, (last_touch[name],)) for name in after_step[step]]
    return tuple(order)


def _highest(memory: Iterable[MemoryCommand], objects: Mapping[str, DeviceObject]) -> int:
    """The highest prefix sum, bytes."""
    held = highest = 0
    for command in memory:
        size = objects[command.object].bytes
        held += size if isinstance(command, Alloc) else -size
        highest = max(highest, held)
    return highest


def _objects(
    model: LoweredModel, weights: Iterable[str], buffers: Iterable[str]
) -> dict[str, DeviceObject]:
    objects: dict[str, DeviceObject] = {}
    for name in weights:
        weight = model.weights[name]
        image = weight.storage is Storage.IMAGE2D
        objects[name] = DeviceObject(
            name=name,
            kind=ObjectKind.IMAGE2D if image else ObjectKind.BUFFER,
            pool=Pool.TEXTURE,
            bytes=weight.device_bytes,
            width=weight.width if image else 0,
            height=weight.height if image else 0,
            dtype=weight.dtype,
        )
    for name in buffers:
        # Views of several element types may lie in one activation buffer: it is bytes.
        size = model.buffers[name]
        objects[name] = DeviceObject(name, ObjectKind.BUFFER, Pool.BUFFER, size, 0, 0, "uint8")
    return objects
