"""Activations as pages of the host's memory: what is live is never touched, and all is counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyopencl as cl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind
from flashmem_lab.runtime.arena import Arena
from flashmem_lab.runtime.opencl.inplace import works_in_place
from flashmem_lab.runtime.opencl.pages import ActivationPages, Left
from flashmem_lab.runtime.opencl.query import find, list_devices

PAGE = 4096
SLOTS = 6
"""Of two pages each; every activation covers some that follow one another."""


def _in_place(device_id: str) -> bool:
    context = cl.Context([find(device_id)])
    return works_in_place(context, cl.CommandQueue(context))


@pytest.fixture(
    scope="module",
    params=[device.id for device in list_devices() if _in_place(device.id)] or [None],
)
def queue(request: pytest.FixtureRequest) -> Iterator[cl.CommandQueue]:
    """Of every device that works in the host's memory; others have no such pages."""
    if request.param is None:
        pytest.fail("no device works in the host's memory; `make test` installs PoCL, which does")
    context = cl.Context([find(request.param)])  # Intel's queues do not keep theirs
    made = cl.CommandQueue(context)
    yield made
    made.finish()


@given(
    st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(1, 3), st.integers(1, 2 * PAGE))),
    st.lists(st.integers(0, 30), max_size=30),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_live_keep_their_bytes_and_every_byte_is_counted_once(
    queue: cl.CommandQueue, wanted: list[tuple[int, int, int]], given_back: list[int]
) -> None:
    """Activations begin one after another; those in their way end, and some are given back."""
    items = [
        DeviceObject(
            f"a{at}",
            ObjectKind.BUFFER,
            Pool.BUFFER,
            min(2 * PAGE * (many - 1) + last, 2 * PAGE * (SLOTS - slot)),
            0,
            0,
            "uint8",
        )
        for at, (slot, many, last) in enumerate(wanted)
    ]
    offsets = {item.name: 2 * PAGE * slot for item, (slot, _, _) in zip(items, wanted, strict=True)}
    pages = ActivationPages(queue.context, Arena(2 * PAGE * SLOTS, offsets))
    live: dict[int, DeviceObject] = {}
    left: list[Left] = []
    held = 0
    for at, item in enumerate(items):
        begin, end = offsets[item.name], offsets[item.name] + item.bytes
        for other, one in list(live.items()):
            if offsets[one.name] < end and begin < offsets[one.name] + one.bytes:
                left.append(pages.end(live.pop(other)))
        if at in given_back and left:
            held -= pages.give_back(left.pop(0))
        held += item.bytes - pages.left_for(item)
        pages.take_over(item)
        live[at] = item
        cl.enqueue_copy(queue, pages.place(item), np.full(item.bytes, at % 251, np.uint8))
        parts = [part for one in left for part in one.parts]
        parts += [(offsets[one.name], offsets[one.name] + one.bytes) for one in live.values()]
        assert held == sum(stop - start for start, stop in parts)
        parts.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(parts))
        for number, one in live.items():
            got = np.empty(one.bytes, np.uint8)
            cl.enqueue_copy(queue, got, pages.place(one))
            assert (got == number % 251).all()
    pages.release()
