"""Host memory that a device copies from at full speed, and weights that stay in it.

A driver copies from memory it has pinned several times as fast as from any other, and without the
host waiting for it. NVIDIA's gives `CL_MEM_ALLOC_HOST_PTR` buffers memory of the device as well,
as much again; those of its extension cl_nv_create_buffer lie in the host's memory alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable

import psutil
import pyopencl as cl

from flashmem_lab.program.program import Program
from flashmem_lab.runtime.opencl.extension import function
from flashmem_lab.runtime.opencl.mapping import Mapped, map_rows
from flashmem_lab.runtime.weightfile import WeightFiles

_EXTENSION = "cl_nv_create_buffer"
_LOCATION_HOST = 1  # CL_MEM_LOCATION_HOST_NV

POOL_BYTES = 256 * 2**20
"""Of a buffer that several weights share: to pin memory takes the driver a moment each time."""


def gives_host_memory(device: cl.Device) -> bool:
    """Whether the driver says that it gives pinned memory on the host alone (`host_buffer`)."""
    return _EXTENSION in device.extensions.split()


def host_buffer(context: cl.Context, size: int) -> cl.Buffer | None:
    """A buffer in pinned host memory that takes none of the device's; None where none is given."""
    device = context.devices[0]
    if not gives_host_memory(device):
        return None
    create = function(
        device,
        "clCreateBufferNV",
        ctypes.c_void_p,  # the buffer
        ctypes.c_void_p,  # context
        ctypes.c_uint64,  # flags
        ctypes.c_uint64,  # flags of the extension
        ctypes.c_size_t,  # bytes
        ctypes.c_void_p,  # memory to use
        ctypes.POINTER(ctypes.c_int),  # error
    )
    if create is None:
        return None
    error = ctypes.c_int(0)
    handle = create(
        context.int_ptr,
        int(cl.mem_flags.READ_WRITE),
        _LOCATION_HOST,
        size,
        None,
        ctypes.byref(error),
    )
    if error.value or not handle:
        return None
    buffer = cl.Buffer.from_int_ptr(handle, retain=False)
    assert isinstance(buffer, cl.Buffer)
    return buffer


def staging_buffer(context: cl.Context, size: int) -> cl.Buffer:
    """Pinned memory to stage weights in, on the host alone where that can be had.

    Raises:
        cl.Error: the driver refuses.
    """
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
    return host_buffer(context, size) or cl.Buffer(context, flags, size)


class KeptWeights:
    """Streamed weights that stay in pinned host memory once a run has read them.

    Later runs copy them from there to the device and read nothing. All of them, or none: where the
    driver gives no such memory, or less than twice what they take is available, every run reads the
    files.

    Args:
        context, queue: where to make and map buffers.
        program: whose weights.
        file: where they are read from.

    Attributes:
        names: those that are kept.
    """

    def __init__(
        self, context: cl.Context, queue: cl.CommandQueue, program: Program, file: WeightFiles
    ) -> None:
        self.names: frozenset[str] = frozenset()
        self._context = context
        self._queue = queue
        self._file = file
        self._spans = program.spans
        streamed = (read.weight for read in program.disk if not read.once)
        self._streamed = list(dict.fromkeys(streamed))
        self._pools: list[cl.Buffer] = []
        self._places: dict[str, tuple[cl.Buffer, int]] = {}

    def place(self, weight: str) -> tuple[cl.Buffer, int]:
        """The buffer that a kept weight lies in, and the offset of its first byte."""
        return self._places[weight]

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads all of them; no run may be going on.

        Args:
            progress: called with the number of weights that are kept, and of all.

        Raises:
            As `WeightFiles.read_rows`.
        """
        size = sum(self._spans[name].bytes for name in self._streamed)
        if not self._file.kept or size * 2 > psutil.virtual_memory().available:
            return
        try:
            for names in _pools(self._streamed, lambda name: self._spans[name].bytes):
                if not self._fill_pool(names):
                    self.release()
                    return
                if progress is not None:
                    progress(len(self._places), len(self._streamed))
        except cl.Error:  # pinned memory is a gain that runs can do without
            self.release()
            return
        self.names = frozenset(self._places)

    def release(self) -> None:
        """Gives the memory back; no command may use it any more."""
        self.names = frozenset()
        self._places.clear()
        while self._pools:
            self._pools.pop().release()

    def _fill_pool(self, names: Iterable[str]) -> bool:
        """Makes a buffer with these weights one behind the other; whether there is memory."""
        sizes = {name: self._spans[name].bytes for name in names}
        whole = sum(sizes.values())
        pool = host_buffer(self._context, whole)
        if pool is None:
            return False
        self._pools.append(pool)
        mapped = map_all(self._queue, pool, rows=1, row_bytes=whole)
        offset = 0
        try:
            for name, size in sizes.items():
                place = mapped.rows[0, offset : offset + size]
                self._file.read_rows(name, 0, place.reshape(-1, self._spans[name].row_bytes))
                self._places[name] = pool, offset
                offset += size
        finally:
            mapped.unmap(self._queue).wait()
        return True


def map_all(queue: cl.CommandQueue, memory: cl.Buffer, *, rows: int, row_bytes: int) -> Mapped:
    """Maps pinned memory, to read and write as rows of bytes; returns when that is done.

    Raises:
        cl.Error: the driver refuses.
    """
    access = cl.map_flags.READ | cl.map_flags.WRITE
    mapped = map_rows(queue, memory, rows=rows, row_bytes=row_bytes, access=access)
    mapped.ready.wait()
    return mapped


def _pools(names: Iterable[str], size: Callable[[str], int]) -> Iterable[list[str]]:
    """Names in their order, as many together as fit into a pool, or one that is larger."""
    together: list[str] = []
    held = 0
    for name in names:
        if together and held + size(name) > POOL_BYTES:
            yield together
            together, held = [], 0
        together.append(name)
        held += size(name)
    if together:
        yield together
