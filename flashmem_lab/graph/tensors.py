"""Tensors of a model as references to bytes in files, checked before they are trusted."""

from __future__ import annotations

import stat
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.graph.scan import INLINE_LIMIT, SELF

TABLE_DTYPES = frozenset({"bool", "int32", "int64"})
"""What masks, shapes and indices are made of; narrower integers are quantised weights."""

INDEX_LIMIT = 64 * 1024
"""Tables up to this many bytes are read at once."""

_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    onnx.TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    onnx.TensorProto.FLOAT8E5M2: "float8_e5m2",
    onnx.TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
}
_ELEMENT_TYPES = {name: number for number, name in _DTYPES.items()}


def dtype_name(element_type: int, what: str) -> str:
    """NumPy name of an ONNX element type.

    Args:
        element_type: a TensorProto.DataType.
        what: whose type it is, for the message ("weight 'w'").

    Raises:
        ModelError: strings, complex numbers and types of less than a byte.
    """
    name = _DTYPES.get(element_type)
    if name is None:
        try:
            shown = onnx.TensorProto.DataType.Name(element_type)
        except ValueError:
            shown = str(element_type)
        raise ModelError(
            f"{what} has element type {shown}, which is not supported",
            hint="use a model whose tensors are float, half, bfloat16, integer or boolean",
        )
    return name


def element_type(name: str) -> int:
    """ONNX element type of a NumPy name that `dtype_name` gave."""
    return _ELEMENT_TYPES[name]


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The dtype of a name, those of ml_dtypes included."""
    special: object = getattr(ml_dtypes, name, None)
    return np.dtype(name) if special is None else np.dtype(special)  # type: ignore[call-overload]


class TensorReader:
    """Turns TensorProtos into arrays (small) or references (large).

    Args:
        path: the .onnx file; external data may lie only in its folder or below, or where this is a
            link, in that of the file itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent
        self._files: dict[str, tuple[Path, int]] = {SELF: (path, path.stat().st_size)}

    @property
    def file_sizes(self) -> dict[Path, int]:
        """Bytes of every file that a tensor has been found in."""
        return dict(self._files.values())

    def read(self, tensor: onnx.TensorProto, name: str) -> np.ndarray | WeightRef:
        """The tensor's value when it is small, else where it lies.

        Raises:
            ModelError: unsupported type, unsafe or missing file, or bytes that do not fit.
        """
        what = f"tensor {name!r}"
        dtype = dtype_name(tensor.data_type, what)
        shape = tuple(tensor.dims)
        if any(extent < 0 for extent in shape):
            raise ModelError(f"{what} has the impossible shape {shape}")
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            try:
                array = numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as error:
                raise ModelError(f"{what} in {self._path} is damaged: {error}") from error
            return array.astype(numpy_dtype(dtype), copy=False)
        ref = self._locate(tensor, what, dtype, shape)
        limit = INDEX_LIMIT if dtype in TABLE_DTYPES else INLINE_LIMIT
        return np.array(read_weight(ref)) if ref.length <= limit else ref

    def _locate(
        self, tensor: onnx.TensorProto, what: str, dtype: str, shape: tuple[int, ...]
    ) -> WeightRef:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file, size = self._file(location, what)
        needed = prod(shape) * numpy_dtype(dtype).itemsize
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries.get("length") or needed)
        except ValueError:
            raise ModelError(f"{what}: offset or length of its data is not a number") from None
        if length != needed:
            raise ModelError(
                f"{what} of type {dtype} and shape {shape} needs {needed} bytes, "
                f"but {length} are recorded in {file.name}"
            )
        if offset < 0 or offset + length > size:
            raise ModelError(
                f"{what} lies at bytes {offset} to {offset + length} of {file}, "
                f"which has only {size} bytes",
                hint="the file is cut short: export or download it again",
            )
        return WeightRef(file, offset, length, dtype, shape)

    def _file(self, location: str, what: str) -> tuple[Path, int]:
        known = self._files.get(location)
        if known is None:
            known = self._files[location] = self._checked(location, what)
        return known

    def _checked(self, location: str, what: str) -> tuple[Path, int]:
        """Resolves a location to a regular file inside the model's folder, or refuses it."""
        hint = "external data must lie in the model's own folder, under a relative path"
        parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if not location or "\0" in location or absolute or ".." in parts:
            raise ModelError(
                f"{what} points outside of the model's folder: {location!r}", hint=hint
            )
        file = self._folder / location
        try:
            resolved = file.resolve(strict=True)
            status = resolved.stat()
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"{what} is stored in {location!r}, which is missing from {self._folder}",
                hint="copy the model together with its external data files",
            ) from error
        # A hub's cache holds the model and its data as links, all into one folder elsewhere.
        homes = (self._folder.resolve(), self._path.resolve().parent)
        if not any(resolved.is_relative_to(home) for home in homes):
            raise ModelError(
                f"{what}: {location!r} is a link that leaves the model's folder", hint=hint
            )
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{what}: {location!r} is not a regular file", hint=hint)
        return file, status.st_size


def read_weight(ref: WeightRef) -> np.ndarray:
    """A read-only view of a weight's bytes, memory-mapped: pages are read when touched.

    Args:
        ref: where the weight lies.

    Returns:
        Array of `ref.shape` and `ref.dtype`.

    Raises:
        ModelError: the file is gone or shorter than it was.
    """
    dtype = numpy_dtype(ref.dtype)
    if ref.length == 0:
        return np.empty(ref.shape, dtype)
    try:
        raw = np.memmap(ref.file, np.uint8, "r", offset=ref.offset, shape=(ref.length,))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read {ref.length} bytes at {ref.offset} of {ref.file}: {error}",
            hint="the model's files changed since it was opened; open it again",
        ) from error
    return raw.view(np.ndarray).view(dtype).reshape(ref.shape)
