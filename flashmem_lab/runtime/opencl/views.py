"""User arrays and strided views: checking what comes in, writing, reading back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyopencl as cl
from numpy.lib.stride_tricks import as_strided

from flashmem_lab.errors import InputError
from flashmem_lab.lower.layer import Port, View
from flashmem_lab.program.sources import dtype_of


def check_inputs(ports: Sequence[Port], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The user's arrays in the ports' dtypes.

    An integer (or float) of fewer bits is widened; anything that could lose a value is refused.

    Raises:
        InputError: one is missing, unknown, or of the wrong dtype or shape; names what is wanted.
    """
    wanted = ", ".join(f"{port.name} {port.dtype}{list(port.shape)}" for port in ports)
    unknown = sorted(set(inputs) - {port.name for port in ports})
    if unknown:
        raise InputError(f"the model has no input {unknown[0]!r}", hint=f"it takes {wanted}")
    arrays: dict[str, np.ndarray] = {}
    for port in ports:
        if port.name not in inputs:
            raise InputError(f"input {port.name!r} is missing", hint=f"the model takes {wanted}")
        given, dtype = np.asarray(inputs[port.name]), dtype_of(port.dtype)
        if given.shape != port.shape:
            raise InputError(
                f"input {port.name!r} has shape {list(given.shape)}, not {list(port.shape)}",
                hint=f"the model takes {wanted}; other sizes need a plan of their own (--dim)",
            )
        widens = given.dtype.kind == dtype.kind and np.can_cast(given.dtype, dtype, "safe")
        if given.dtype != dtype and not widens:
            raise InputError(
                f"input {port.name!r} has dtype {given.dtype}, not {port.dtype}",
                hint=f"convert it yourself: array.astype('{port.dtype}')",
            )
        arrays[port.name] = given.astype(dtype, copy=False)
    return arrays


def to_port(array: np.ndarray, port: Port) -> np.ndarray:
    """What was read from the device, as the user's dtype and shape; copied only if it must be."""
    with np.errstate(over="ignore"):  # a float16 output may overflow, as it would in the model
        return np.ascontiguousarray(array, dtype_of(port.dtype)).reshape(port.shape)


def write_view(
    queue: cl.CommandQueue, memory: cl.Buffer, view: View, array: np.ndarray
) -> cl.Event:
    """Writes `array` (of the view's size) into the view, in the view's dtype; blocks.

    What lies between the elements of a strided view is kept.
    """
    dtype = dtype_of(view.dtype)
    values = np.ascontiguousarray(array, dtype).reshape(view.shape)
    low, count = _extent(view)
    if count == view.size and _row_major(view):
        return cl.enqueue_copy(queue, memory, _bytes(values), dst_offset=low * dtype.itemsize)
    flat = np.empty(count, dtype)
    cl.enqueue_copy(queue, _bytes(flat), memory, src_offset=low * dtype.itemsize)
    _strided(flat, view, low)[...] = values
    return cl.enqueue_copy(queue, memory, _bytes(flat), dst_offset=low * dtype.itemsize)


def read_view(
    queue: cl.CommandQueue, memory: cl.Buffer, view: View, *, blocking: bool
) -> tuple[np.ndarray, cl.Event]:
    """The view's elements, in its dtype and shape; valid once the event is done."""
    dtype = dtype_of(view.dtype)
    low, count = _extent(view)
    flat = np.empty(count, dtype)
    event = cl.enqueue_copy(
        queue, _bytes(flat), memory, src_offset=low * dtype.itemsize, is_blocking=blocking
    )
    return _strided(flat, view, low), event


def _extent(view: View) -> tuple[int, int]:
    """First element that the view touches, and how many lie from there to its last one."""
    reach = [(size - 1) * step for size, step in zip(view.shape, view.strides, strict=True)]
    low = view.offset + sum(step for step in reach if step < 0)
    high = view.offset + sum(step for step in reach if step > 0)
    return low, high - low + 1


def _row_major(view: View) -> bool:
    expected = 1
    for size, step in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def _strided(flat: np.ndarray, view: View, low: int) -> np.ndarray:
    strides = tuple(step * flat.itemsize for step in view.strides)
    return as_strided(flat[view.offset - low :], view.shape, strides)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The same memory as bytes: pyopencl takes no element types that NumPy learned from others."""
    return array.reshape(-1).view(np.uint8)
