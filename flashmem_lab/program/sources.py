"""Reads boxes out of the model's files piece by piece, so no weight is ever in memory twice.

Plain positioned reads, not a memory map: the pages of a map count as resident memory of the
process until they are dropped, and a transposition touches all of them for every block.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import ml_dtypes
import numpy as np

from flashmem_lab.errors import ModelError, from_os_error
from flashmem_lab.graph.model import WeightRef

Box = tuple[tuple[int, int], ...]
"""A half-open range along each dimension."""

_NATIVE = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_EXTENDED = {"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}

PIECE_BYTES = 4 * 2**20
"""At most about this much of a file is read at once when only parts of its rows are wanted."""


def dtype_of(name: str) -> np.dtype:
    """The little-endian NumPy type of a name, with those of ml_dtypes such as bfloat16.

    Raises:
        ModelError: there is no such type.
    """
    if name in _NATIVE:
        return np.dtype(name).newbyteorder("<")
    if name in _EXTENDED:
        extended: np.dtype = np.dtype(getattr(ml_dtypes, name))
        return extended
    raise ModelError(f"{name!r} is not an element type that tensors can have")


def extents(box: Box) -> tuple[int, ...]:
    """Shape of the box."""
    return tuple(stop - start for start, stop in box)


class Sources:
    """The open files of a model and its folded constants; a context manager.

    Args:
        constants: dtype, shape and raw bytes by name (`LoweredModel.constants`).
    """

    def __init__(self, constants: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
        self._constants = constants
        self._files: dict[Path, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.clear()
        self._stack.close()

    def constant(self, name: str) -> np.ndarray:
        """A folded constant, read-only.

        Raises:
            ModelError: the model has no constant of that name.
        """
        if name not in self._constants:
            raise ModelError(f"a packed weight refers to the constant {name!r}, which is missing")
        dtype, shape, data = self._constants[name]
        return np.frombuffer(data, dtype_of(dtype)).reshape(shape)

    def read(self, ref: WeightRef, box: Box) -> np.ndarray:
        """The elements of `ref` inside `box`, a new array of the box's shape.

        Raises:
            ModelError: the file is missing or shorter than the reference says.
        """
        dtype = dtype_of(ref.dtype)
        if ref.length != prod(ref.shape) * dtype.itemsize:
            raise ModelError(
                f"{ref.file}: {ref.length} bytes at {ref.offset} do not hold a "
                f"{ref.dtype} array of shape {list(ref.shape)}"
            )
        out = np.empty(extents(box), dtype)
        self._fill(ref, ref.offset, ref.shape, box, out)
        return out

    def _fill(
        self, ref: WeightRef, offset: int, shape: tuple[int, ...], box: Box, out: np.ndarray
    ) -> None:
        """Fills `out` with `box` of the row-major array of `shape` at byte `offset`."""
        if not shape:
            self._read_into(ref, offset, out.reshape(1))
            return
        (start, stop), inner = box[0], box[1:]
        row = prod(shape[1:]) * out.itemsize
        if all(ends == (0, size) for ends, size in zip(inner, shape[1:], strict=True)):
            self._read_into(ref, offset + start * row, out)
        elif row <= PIECE_BYTES:
            step = max(1, PIECE_BYTES // max(1, row))
            piece = np.empty((min(step, stop - start), *shape[1:]), out.dtype)
            window = (slice(None), *(slice(*ends) for ends in inner))
            for first in range(start, stop, step):
                rows = min(step, stop - first)
                self._read_into(ref, offset + first * row, piece[:rows])
                out[first - start : first - start + rows] = piece[:rows][window]
        else:
            for index in range(start, stop):
                self._fill(ref, offset + index * row, shape[1:], inner, out[index - start, ...])

    def _read_into(self, ref: WeightRef, offset: int, out: np.ndarray) -> None:
        """Fills the contiguous `out` from byte `offset` of the file."""
        # As bytes, because the types of ml_dtypes have no buffer protocol.
        view = out.reshape(-1).view(np.uint8).data
        try:
            descriptor = self._open(ref.file)
            while view:
                count = os.preadv(descriptor, [view], offset)
                if count == 0:
                    raise ModelError(
                        f"{ref.file} ends before the weight bytes that the model expects in it",
                        hint="the file is truncated; download or export it again",
                    )
                view, offset = view[count:], offset + count
        except OSError as error:
            raise from_os_error(error, "reading weights") from error

    def _open(self, file: Path) -> int:
        if file not in self._files:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self._stack.callback(os.close, descriptor)
            self._files[file] = descriptor
        return self._files[file]
