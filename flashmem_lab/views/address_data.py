"""Where every object would lie: addresses of a first-fit allocator over the steps of a plan.

OpenCL tells nobody where its objects are; a driver places them as it likes. What a simple
allocator would do with the same lives still shows what streaming does to memory: which weights
take turns in one place, and how much is lost between objects.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.plan import Plan
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.trace.runs import DEVICE_POOLS
from flashmem_lab.views.wire import encode

SCHEMA = "flashmem-lab/address-view/1"


@dataclass(frozen=True, slots=True)
class Object:
    """Something that lies on the device while layers `first` to `last` run; `size` in bytes."""

    name: str
    pool: Pool
    first: int
    last: int
    size: int


def address_data(model: LoweredModel, plan: Plan) -> bytes:
    """Every object of a plan and its place; mirrored by `AddressModel` of the browser."""
    objects = objects_of(model, plan)
    places = first_fit(objects)
    top = max((at + one.size for at, one in zip(places, objects, strict=True)), default=0)
    return encode(
        SCHEMA,
        {"topBytes": top, "names": [one.name for one in objects]},
        {
            "pool": np.array([DEVICE_POOLS.index(one.pool) for one in objects], np.uint8),
            "first": np.array([one.first for one in objects], np.int32),
            "last": np.array([one.last for one in objects], np.int32),
            "address": np.array(places, np.float64),
            "size": np.array([one.size for one in objects], np.float64),
        },
    )


def objects_of(model: LoweredModel, plan: Plan) -> list[Object]:
    """What the runtime makes, in the order in which it does: those that stay come first."""
    last, lives = len(model.layers) - 1, model.lifetimes()
    sizes = {name: weight.device_bytes for name, weight in model.weights.items()}
    ring = Object("staging ring", Pool.STAGING, 0, last, plan.staging_bytes)
    made = [
        *(Object(name, Pool.TEXTURE, 0, last, sizes[name]) for name in plan.preloaded),
        *(
            Object(one.weight, Pool.TEXTURE, one.load_at, one.last_use, sizes[one.weight])
            for one in plan.streamed
        ),
        *(Object(name, Pool.BUFFER, *span, model.buffers[name]) for name, span in lives.items()),
    ]
    made.sort(key=lambda one: one.first)  # stable: weights before buffers at each step
    return [one for one in (ring, *made) if one.size > 0]


def first_fit(objects: list[Object]) -> list[int]:
    """The address of each object: the lowest gap that it fits into when it is made.

    Args:
        objects: by the layer at which they are made; an object is freed when its last layer has
            run, before anything is made for the next one.
    """
    places: list[int] = []
    gaps: list[tuple[int, int]] = []  # (address, bytes) of what is free below `top`, in order
    top = 0
    living: dict[int, list[int]] = {}  # objects by their last layer
    step = 0
    for at, one in enumerate(objects):
        for ended in range(step, one.first):
            for dead in living.pop(ended, ()):
                _release(gaps, places[dead], objects[dead].size)
        step = one.first
        found = next((i for i, (_, size) in enumerate(gaps) if size >= one.size), None)
        if found is None:
            # The gap that ends at the top grows with it.
            begin = gaps.pop()[0] if gaps and sum(gaps[-1]) == top else top
            places.append(begin)
            top = begin + one.size
        else:
            begin, size = gaps[found]
            places.append(begin)
            gaps[found : found + 1] = (
                [(begin + one.size, size - one.size)] if size > one.size else []
            )
        living.setdefault(one.last, []).append(at)
    return places


def _release(gaps: list[tuple[int, int]], begin: int, size: int) -> None:
    """Adds a gap, joined with its neighbours."""
    at = bisect_left(gaps, (begin, 0))
    if at < len(gaps) and begin + size == gaps[at][0]:
        size += gaps.pop(at)[1]
    if at and sum(gaps[at - 1]) == begin:
        at -= 1
        begin, before = gaps.pop(at)
        size += before
    gaps.insert(at, (begin, size))
