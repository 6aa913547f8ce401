"""Objects mapped into host memory, as rows of bytes that can be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyopencl as cl
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from flashmem_lab.runtime.opencl.objects import DeviceMemory

# Any: pyopencl's stubs know neither a NumPy dtype nor two map flags joined.
_BYTE: Any = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapped object.

    Attributes:
        rows: its bytes, shape (rows, bytes of a row); rows may lie apart.
        ready: the rows may be touched once this is done.
        handle: the driver's mapping; it lives as long as the rows do.
    """

    rows: NDArray[np.uint8]
    ready: cl.Event
    handle: Any

    def unmap(self, queue: cl.CommandQueue) -> cl.Event:
        """Gives the bytes to the device; the rows must not be touched any more."""
        event: cl.Event = self.handle.release(queue)
        return event


def map_rows(
    queue: cl.CommandQueue,
    memory: DeviceMemory,
    *,
    rows: int,
    row_bytes: int,
    access: int,
    wait_for: Sequence[cl.Event] = (),
) -> Mapped:
    """Enqueues the mapping of a whole buffer, or of a whole image of that many tight row bytes.

    It happens once every event of `wait_for` is over.

    Raises:
        cl.Error: the driver refuses.
    """
    flags: Any = access
    if isinstance(memory, cl.Image):
        # The pitch is known only afterwards, so one byte is asked for and the rest laid out.
        first, ready, pitch, _ = cl.enqueue_map_image(
            queue,
            memory,
            flags,
            (0, 0),
            (memory.width, memory.height),
            (1,),
            _BYTE,
            wait_for=wait_for or None,
            is_blocking=False,
        )
        laid_out = as_strided(first, (rows, row_bytes), (pitch, 1))
        return Mapped(laid_out, ready, first.base)
    flat, ready = cl.enqueue_map_buffer(
        queue,
        memory,
        flags,
        0,
        (rows, row_bytes),
        _BYTE,
        wait_for=wait_for or None,
        is_blocking=False,
    )
    return Mapped(flat, ready, flat.base)
