"""Blocks of ended weights: which are released for room, and which serve the next ones."""

from __future__ import annotations

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
from flashmem_lab.runtime.opencl.blockobjects import BlockObjects
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.launches import Launches
from flashmem_lab.runtime.opencl.query import find

WIDE = DeviceObject("wide0", ObjectKind.IMAGE2D, Pool.TEXTURE, 64 * 8 * 16, 64, 8, "float32")
TALL = replace(WIDE, name="tall0", width=8, height=64)
NEXT_WIDE, NEXT_TALL = replace(WIDE, name="wide1"), replace(TALL, name="tall1")
ROOM = 2 * WIDE.bytes
COPY_TEXEL = """__kernel void put(__global float* to, __read_only image2d_t from, int at) {
    const sampler_t nearest = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_NONE | CLK_FILTER_NEAREST;
    to[at] = read_imagef(from, nearest, (int2)(0, 0)).x;
}"""


def _objects(device_id: str) -> BlockObjects:
    nothing_in_place = MagicMock()
    nothing_in_place.__contains__.return_value = False
    return BlockObjects(
        cl.Context([find(device_id)]),
        MagicMock(),
        Ledger(ROOM),
        host_visible=False,
        written=False,
        cap_bytes=ROOM,
        arena=None,
        placed=False,
        pages=None,
        in_place=nothing_in_place,
    )


def test_a_block_serves_the_next_object_of_its_geometry_and_makes_room_for_others(
    device_id: str,
) -> None:
    objects = _objects(device_id)
    objects.create(WIDE)
    objects.create(TALL)
    kept, lent = objects[WIDE.name], objects[TALL.name]
    assert not objects.try_create(NEXT_WIDE)  # both are live
    objects.end(WIDE.name, ())
    objects.end(TALL.name, ())
    objects.create(NEXT_TALL)
    assert objects[NEXT_TALL.name] is lent
    objects.create(replace(TALL, name="tall2"))  # the room of the other one
    objects.end(NEXT_TALL.name, ())
    objects.create(NEXT_WIDE)
    assert objects[NEXT_WIDE.name] is not kept
    objects.release_all()


def test_memory_that_is_released_is_no_argument_any_more(
    device_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's driver keeps what a kernel has as an argument."""
    device = find(device_id)
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    source = KernelSource("put", COPY_TEXEL)
    kernels = Kernels(context, device)  # holds the program: Intel's driver wants it while it runs
    (kernel,) = kernels.build((source,))
    args = (Arg("object", "to"), Arg("object", "from"), Arg("int", 0))
    launch = Launch(0, 0, "put", 0, args, (1,), (), ())
    launches = Launches(MagicMock(kernels=(source,)), [kernel], told=[()])
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
