"""Blocks of ended weights: which are released for room, and which serve the next ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pyopencl as cl
import pytest

from flashmem_lab.lower.layer import Arg
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, KernelSource, Launch, ObjectKind
from flashmem_lab.runtime.ledger import Ledger
from flashmem_lab.runtime.opencl.foresight import Foresight
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.launches import Launches
from flashmem_lab.runtime.opencl.objects import DeviceMemory, DeviceObjects
from flashmem_lab.runtime.opencl.query import find

WIDE = DeviceObject("wide0", ObjectKind.IMAGE2D, Pool.TEXTURE, 64 * 8 * 16, 64, 8, "float32")
TALL = replace(WIDE, name="tall0", width=8, height=64)
NEXT_WIDE, NEXT_TALL = replace(WIDE, name="wide1"), replace(TALL, name="tall1")
ROOM = 2 * WIDE.bytes
COPY_TEXEL = """__kernel void put(__global float* to, __read_only image2d_t from, int at) {
    const sampler_t nearest = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE;
    to[at] = read_imagef(from, nearest, (int2)(0, 0)).x;
}"""


def _objects(
    device_id: str,
    foresight: Foresight | None,
    let_go: Callable[[DeviceMemory], None] = lambda memory: None,
) -> DeviceObjects:
    nothing_in_place = MagicMock()
    nothing_in_place.__contains__.return_value = False
    return DeviceObjects(
        cl.Context([find(device_id)]),
        Ledger(ROOM),
        host_visible=False,
        written=False,
        cap_bytes=ROOM,
        arena=None,
        placed=False,
        pages=None,
        in_place=nothing_in_place,
        foresight=foresight,
        let_go=let_go,
    )


@pytest.mark.parametrize("foreseeing", [True, False])
def test_a_block_that_will_do_for_the_next_weights_is_not_released(
    device_id: str, foreseeing: bool
) -> None:
    order = [WIDE, TALL, NEXT_TALL, NEXT_WIDE]
    objects = _objects(device_id, Foresight(order, ROOM) if foreseeing else None)
    objects.create(WIDE)
    objects.create(TALL)
    kept, lent = objects[WIDE.name], objects[TALL.name]
    objects.end(WIDE.name, ())
    # Room for it could be had now, or its like ends in a moment.
    assert objects.try_create(NEXT_TALL) is not foreseeing
    objects.end(TALL.name, ())
    if foreseeing:
        assert objects.try_create(NEXT_TALL)
        assert objects[NEXT_TALL.name] is lent
    assert objects.try_create(NEXT_WIDE)
    assert (objects[NEXT_WIDE.name] is kept) is foreseeing
    objects.release_all()


def test_a_block_that_nothing_wants_soon_makes_room(device_id: str) -> None:
    objects = _objects(device_id, Foresight([TALL, NEXT_TALL], ROOM))
    objects.create(WIDE)
    objects.create(TALL)
    objects.end(WIDE.name, ())
    assert objects.try_create(NEXT_TALL)  # though TALL is live
    objects.release_all()


def test_what_is_needed_now_gets_room_whatever_else_is_wanted(device_id: str) -> None:
    released: list[DeviceMemory] = []
    objects = _objects(
        device_id, Foresight([WIDE, TALL, NEXT_WIDE, NEXT_TALL], ROOM), let_go=released.append
    )
    objects.create(WIDE)
    objects.create(TALL)
    first = objects[WIDE.name]
    objects.end(WIDE.name, ())
    assert not objects.try_create(NEXT_TALL)
    assert released == []
    objects.create(NEXT_TALL)
    assert released == [first]
    objects.release_all()


def test_memory_that_is_released_is_no_argument_any_more(
    device_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's driver keeps what a kernel has as an argument."""
    device = find(device_id)
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    source = KernelSource("put", COPY_TEXEL)
    (kernel,) = Kernels(context, device).build((source,))
    args = (Arg("object", "to"), Arg("object", "from"), Arg("int", 0))
    launch = Launch(0, 0, "put", 0, args, (1,), (), ())
    launches = Launches(MagicMock(kernels=(source,)), [kernel], placed=False)
    given: dict[int, object] = {}
    set_arg = cl.Kernel.set_arg

    def noting(self: cl.Kernel, at: int, value: Any) -> None:
        given[at] = value
        set_arg(self, at, value)

    monkeypatch.setattr(cl.Kernel, "set_arg", noting)
    pixel = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
    result, texel = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4), np.empty(1, np.float32)
    for value in (7, 9):
        image = cl.create_image(context, cl.mem_flags.READ_WRITE, pixel, shape=(1, 1))
        cl.enqueue_fill_image(queue, image, np.full(4, value, np.float32), (0, 0), (1, 1))
        objects = MagicMock(begin=lambda name: 0)
        objects.__getitem__.side_effect = {"to": result, "from": image}.__getitem__
        launches.enqueue(queue, launch, objects, [])
        assert given[1] is image
        launches.let_go(image)
        assert isinstance(given[1], cl.Image)
        assert given[1] is not image
        image.release()
        cl.enqueue_copy(queue, texel, result)
        assert texel[0] == value
    assert given[0] is result
