"""Launches recorded once and replayed with one call: cl_khr_command_buffer.

Version 0.9.0 of the extension, which PoCL 3.1 has, and 1.0, which Intel's runtime has, take the
same arguments for all that is used here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyopencl as cl

from flashmem_lab.runtime.opencl.extension import bits, function, version

_EXTENSION = "cl_khr_command_buffer"
_NEWEST = 1  # major version; another one may take other arguments
_REQUIRED_QUEUE_PROPERTIES = 0x12AA  # CL_DEVICE_COMMAND_BUFFER_REQUIRED_QUEUE_PROPERTIES_KHR
_SUPPORTED_QUEUE_PROPERTIES = 0x129A  # CL_DEVICE_COMMAND_BUFFER_SUPPORTED_QUEUE_PROPERTIES_KHR

_HANDLE, _CODE, _COUNT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32
_SIZES = ctypes.POINTER(ctypes.c_size_t)


class Launched(NamedTuple):
    """A launch whose kernel has all its arguments."""

    kernel: cl.Kernel
    global_size: tuple[int, ...]
    local_size: tuple[int, ...] | None


class _Functions(NamedTuple):
    create: Callable[..., Any]
    launch: Callable[..., Any]
    finalize: Callable[..., Any]
    enqueue: Callable[..., Any]
    release: Callable[..., Any]


class CommandBuffer:
    """Recorded launches, which run in their order. Use `recording`.

    Args:
        functions: of the driver.
        handle: the driver's.
    """

    def __init__(self, functions: _Functions, handle: int) -> None:
        self._functions = functions
        self._handle = handle

    def enqueue(self) -> cl.Event | None:
        """Replays it on the queue it was recorded for; None if the driver refuses.

        It may be replayed again once that is over.
        """
        event = ctypes.c_void_p()
        failed = self._functions.enqueue(0, None, self._handle, 0, None, ctypes.byref(event))
        if failed or not event.value:
            return None
        return cl.Event.from_int_ptr(event.value, retain=False)

    def release(self) -> None:
        """Releases it; it may not be running."""
        self._functions.release(self._handle)


class CommandBuffers:
    """Records launches for one queue; `on` tells whether its device can.

    Args:
        functions: of the driver.
        queue: in-order, with profiling.
    """

    def __init__(self, functions: _Functions, queue: cl.CommandQueue) -> None:
        self._functions = functions
        self._queue = queue

    @classmethod
    def on(cls, queue: cl.CommandQueue) -> CommandBuffers | None:
        """Those of a queue; None where its device has none for queues of its properties."""
        device = queue.device
        if _EXTENSION not in device.extensions.split():
            return None
        found = version(device, _EXTENSION)
        if found is not None and found[0] > _NEWEST:
            return None
        has = int(queue.properties)
        required = bits(device, _REQUIRED_QUEUE_PROPERTIES)
        supported = bits(device, _SUPPORTED_QUEUE_PROPERTIES)  # not asked for before version 0.9.5
        if required is None or required & ~has or (supported is not None and has & ~supported):
            return None
        functions = _functions(device)
        return cls(functions, queue) if functions is not None else None

    def record(self, launches: Iterable[Launched]) -> CommandBuffer | None:
        """Records launches that follow each other; None if the driver refuses."""
        queues = (ctypes.c_void_p * 1)(self._queue.int_ptr)
        error = _CODE(0)
        handle = self._functions.create(1, queues, None, ctypes.byref(error))
        if error.value or not handle:
            return None
        buffer = CommandBuffer(self._functions, handle)
        refused = any(self._add(handle, one) for one in launches)
        if refused or self._functions.finalize(handle):
            buffer.release()
            return None
        return buffer

    def _add(self, handle: int, one: Launched) -> int:
        dimensions = len(one.global_size)
        sizes = ctypes.c_size_t * dimensions
        local = sizes(*one.local_size) if one.local_size else None
        code: int = self._functions.launch(
            handle,
            None,  # the queue of the buffer
            None,  # no properties
            one.kernel.int_ptr,
            dimensions,
            None,  # from 0 on
            sizes(*one.global_size),
            local,
            0,  # waits for nothing but the launch before it: the queue is in-order
            None,
            None,
            None,
        )
        return code


def _functions(device: cl.Device) -> _Functions | None:
    """Those of the driver; None where one is missing."""
    found = (
        function(
            device,
            "clCreateCommandBufferKHR",
            _HANDLE,
            _COUNT,  # queues
            ctypes.POINTER(_HANDLE),
            ctypes.c_void_p,  # properties
            ctypes.POINTER(_CODE),  # error
        ),
        function(
            device,
            "clCommandNDRangeKernelKHR",
            _CODE,
            _HANDLE,  # command buffer
            _HANDLE,  # queue
            ctypes.c_void_p,  # properties
            _HANDLE,  # kernel
            _COUNT,  # dimensions
            _SIZES,  # offset
            _SIZES,  # global size
            _SIZES,  # local size
            _COUNT,  # sync points to wait for
            ctypes.c_void_p,
            ctypes.c_void_p,  # sync point of its own
            ctypes.c_void_p,  # handle to change it later
        ),
        function(device, "clFinalizeCommandBufferKHR", _CODE, _HANDLE),
        function(
            device,
            "clEnqueueCommandBufferKHR",
            _CODE,
            _COUNT,  # queues in place of those it was recorded for
            ctypes.c_void_p,
            _HANDLE,  # command buffer
            _COUNT,  # events to wait for
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_void_p),  # event of its own
        ),
        function(device, "clReleaseCommandBufferKHR", _CODE, _HANDLE),
    )
    present = [one for one in found if one is not None]
    return _Functions(*present) if len(present) == len(found) else None
