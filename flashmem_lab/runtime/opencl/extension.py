"""Functions of OpenCL's extensions that pyopencl does not wrap, and what devices say of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pyopencl as cl
from pyopencl import _cl


def function(
    device: cl.Device, name: str, result: Any, *arguments: Any
) -> Callable[..., Any] | None:
    """A function of an extension by its name; None where the driver has none.

    Args:
        device: whose driver is asked.
        name: such as "clCreateBufferNV".
        result: its type, of ctypes.
        *arguments: theirs.
    """
    find = _library().clGetExtensionFunctionAddressForPlatform
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)
    address = find(device.platform.int_ptr, name.encode())
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None


def bits(device: cl.Device, parameter: int) -> int | None:
    """What a device answers to a query whose answer is a bit field; None where it knows it not."""
    ask = _library().clGetDeviceInfo
    ask.restype = ctypes.c_int32
    ask.argtypes = (
        ctypes.c_void_p,  # device
        ctypes.c_uint32,  # parameter
        ctypes.c_size_t,  # bytes of the answer
        ctypes.c_void_p,  # the answer
        ctypes.c_void_p,  # bytes that it takes
    )
    answer = ctypes.c_uint64(0)
    size = ctypes.sizeof(answer)
    failed = ask(device.int_ptr, parameter, size, ctypes.byref(answer), None)
    return None if failed else answer.value


def version(device: cl.Device, extension: str) -> tuple[int, int, int] | None:
    """Which version of an extension a device has; None where it does not tell."""
    try:
        listed = device.extensions_with_version
    except cl.Error:  # OpenCL before 3.0
        return None
    for one in listed:
        if one.name == extension:
            packed = int(one.version)
            return packed >> 22, (packed >> 12) & 0x3FF, packed & 0xFFF
    return None


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(_cl.__file__)  # finds the libOpenCL that pyopencl itself has loaded
