"""Host memory that outputs are read into, kept from run to run.

To touch new memory takes longer than to fill it. And a driver that copies by way of memory of its
own takes longer than one that copies to pinned memory at once (H100, GPT-Neo-Small with 25.7 MB of
logits: runs of 6.8 ms and of 4.6).
"""

from __future__ import annotations

import numpy as np
import pyopencl as cl

from flashmem_lab.lower.layer import View
from flashmem_lab.runtime.opencl.mapping import Mapped
from flashmem_lab.runtime.opencl.pinned import host_buffer, map_all
from flashmem_lab.runtime.opencl.views import landing


class Landings:
    """Where the outputs of one program arrive.

    Args:
        context: for pinned memory.
        queue: maps it.
    """

    def __init__(self, context: cl.Context, queue: cl.CommandQueue) -> None:
        self._context = context
        self._queue = queue
        self._flat: dict[str, np.ndarray] = {}
        self._pinned: list[tuple[cl.Buffer, Mapped]] = []

    def at(self, name: str, view: View) -> np.ndarray:
        """Memory for an output (`read_view`): in every run the same, but for `pin`."""
        if name not in self._flat:
            self._flat[name] = landing(view)
        return self._flat[name]

    def pin(self) -> None:
        """Has later runs' outputs arrive in pinned memory, where the driver gives some."""
        for name, flat in self._flat.items():
            try:
                mapped = self._map(flat.nbytes)
            except cl.Error:  # a gain that runs can do without
                return
            if mapped is None:
                return
            self._flat[name] = mapped.rows[0].view(flat.dtype)

    def detach(self, outputs: dict[str, np.ndarray]) -> None:
        """Gives outputs memory of their own, if theirs is about to go."""
        if self._pinned:
            outputs |= {name: array.copy() for name, array in outputs.items()}

    def release(self) -> None:
        """Gives pinned memory back; nothing may use it any more."""
        self._flat.clear()
        while self._pinned:
            buffer, mapped = self._pinned.pop()
            mapped.unmap(self._queue).wait()
            buffer.release()

    def _map(self, size: int) -> Mapped | None:
        """That many bytes of pinned memory; None where there is none."""
        buffer = host_buffer(self._context, size)
        if buffer is None:
            return None
        try:
            mapped = map_all(self._queue, buffer, rows=1, row_bytes=size)
        except cl.Error:
            buffer.release()
            raise
        self._pinned.append((buffer, mapped))
        return mapped
