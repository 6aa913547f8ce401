"""Strided views on device buffers: writing arrays to them, reading them back."""

from __future__ import annotations

import numpy as np
import pyopencl as cl
from numpy.lib.stride_tricks import as_strided

from flashmem_lab.lower.layer import View
from flashmem_lab.program.sources import dtype_of


def write_view(
    queue: cl.CommandQueue, memory: cl.Buffer, view: View, array: np.ndarray, *, begin: int = 0
) -> cl.Event:
    """Writes `array` (of the view's size) into the view, in the view's dtype.

    The view is one of what lies `begin` bytes into `memory`.

    Blocks only where what lies between the elements of a strided view must be kept. The event
    keeps the bytes that are written.
    """
    dtype = dtype_of(view.dtype)
    values = np.ascontiguousarray(array, dtype).reshape(view.shape)
    low, count = _extent(view)
    begin += low * dtype.itemsize
    if count == view.size and _row_major(view):
        return cl.enqueue_copy(queue, memory, _bytes(values), dst_offset=begin, is_blocking=False)
    flat = np.empty(count, dtype)
    cl.enqueue_copy(queue, _bytes(flat), memory, src_offset=begin)
    _strided(flat, view, low)[...] = values
    return cl.enqueue_copy(queue, memory, _bytes(flat), dst_offset=begin)


def landing(view: View) -> np.ndarray:
    """Host memory for `read_view`."""
    return np.empty(_extent(view)[1], dtype_of(view.dtype))


def read_view(
    queue: cl.CommandQueue,
    memory: cl.Buffer,
    view: View,
    flat: np.ndarray,
    *,
    blocking: bool,
    begin: int = 0,
) -> tuple[np.ndarray, cl.Event]:
    """The view's elements, in its dtype and shape, in `flat` (`landing`).

    The view is one of what lies `begin` bytes into `memory`. The elements are valid once the event
    is done.
    """
    low, _ = _extent(view)
    event = cl.enqueue_copy(
        queue, _bytes(flat), memory, src_offset=begin + low * flat.itemsize, is_blocking=blocking
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
