"""Which blocks are kept for the weights that come next."""

from __future__ import annotations

from dataclasses import replace

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind
from flashmem_lab.runtime.opencl.foresight import AHEAD, Foresight, geometry

WIDE = DeviceObject("wide", ObjectKind.IMAGE2D, Pool.TEXTURE, 160, 10, 1, "float32")
TALL = replace(WIDE, name="tall", width=1, height=10)


def named(item: DeviceObject, *names: str) -> list[DeviceObject]:
    return [replace(item, name=name) for name in names]


def test_it_looks_ahead_as_far_as_the_room_goes_and_into_the_next_run() -> None:
    order = [*named(WIDE, "a", "b", "c"), *named(TALL, "d", "e")]
    foresight = Foresight(order, room=2 * 160)
    assert 2 * AHEAD == 4
    assert foresight.lacking("a") == {geometry(WIDE): 3, geometry(TALL): 1}
    assert foresight.lacking("d") == {geometry(WIDE): 2, geometry(TALL): 2}


def test_live_blocks_serve_what_comes() -> None:
    order = [*named(WIDE, "a", "b"), *named(TALL, "c")]
    foresight = Foresight(order, room=1000)
    assert not foresight.ends_soon(order[1])
    foresight.began(order[0])
    foresight.began(replace(WIDE, name="made once"))
    assert foresight.lacking("b") == {geometry(WIDE): 1, geometry(TALL): 1}
    assert foresight.ends_soon(order[1])
    foresight.ended(order[0])
    assert not foresight.ends_soon(order[1])


def test_each_run_wants_a_weight_once() -> None:
    foresight = Foresight(named(WIDE, "a"), room=10_000)
    assert foresight.lacking("a") == {geometry(WIDE): 1}
