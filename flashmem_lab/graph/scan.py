"""Reads an .onnx file without reading its weights.

Protocol Buffers are length-prefixed, so a tensor's bytes can be stepped over. The scanner walks
only the messages that lead to tensors (field numbers from onnx.proto, in the onnx repository) and
rebuilds the same ModelProto with every large payload replaced by an external-data reference into
the .onnx file itself. Inline and external weights are one mechanism from there on.
"""

from __future__ import annotations

import mmap
from enum import Enum
from pathlib import Path

from flashmem_lab.errors import ModelError

INLINE_LIMIT = 1024
"""Messages and payloads of at most this many bytes are kept as they are."""

SELF = "."
"""External-data location that means "this .onnx file"; no file can have this name."""

_GRAPH_LIMIT = 1 << 30  # a graph of a million nodes has about 0.5 GB of text
_DEPTH_LIMIT = 64  # protobuf's own parser stops at 100

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class _Kind(Enum):
    """The messages on the way to a tensor."""

    MODEL = "ModelProto"
    GRAPH = "GraphProto"
    FUNCTION = "FunctionProto"
    NODE = "NodeProto"
    ATTRIBUTE = "AttributeProto"
    TENSOR = "TensorProto"


_CHILDREN: dict[_Kind, dict[int, _Kind]] = {
    _Kind.MODEL: {7: _Kind.GRAPH, 25: _Kind.FUNCTION},
    _Kind.GRAPH: {1: _Kind.NODE, 5: _Kind.TENSOR},
    _Kind.FUNCTION: {7: _Kind.NODE},
    _Kind.NODE: {5: _Kind.ATTRIBUTE},
    _Kind.ATTRIBUTE: {
        5: _Kind.TENSOR,
        6: _Kind.GRAPH,
        10: _Kind.TENSOR,
        11: _Kind.GRAPH,
    },
    _Kind.TENSOR: {},
}

# TensorProto: payloads whose bytes lie in the file as they would in memory, each with the only
# data_type for which that is so (None: any). Varint payloads (int32_data, int64_data) do not.
_RAW_DATA = 9
_PAYLOADS: dict[int, int | None] = {_RAW_DATA: None, 4: 1, 10: 11}
_DATA_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 2, 13, 14


def skeleton(path: Path) -> bytes:
    """The file's ModelProto with every large tensor payload turned into a reference.

    Args:
        path: an .onnx file.

    Returns:
        Serialised ModelProto; a replaced payload has `data_location` EXTERNAL and the location
        `SELF`, with its offset and length in the file.

    Raises:
        ModelError: the file is missing, cut short or not made of valid messages.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise ModelError(f"{path} is empty", hint="export or download the model again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Scanner(path, data).rebuild(0, size, _Kind.MODEL, 0)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ModelError(f"cannot read {path}: {reason}", hint="check the path") from error


class _Scanner:
    """One pass over a mapped file; positions are absolute, so they are the weights' offsets."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.kept = 0

    def rebuild(self, start: int, end: int, kind: _Kind, depth: int) -> bytes:
        """The message in [start, end) without the large payloads beneath it."""
        if depth > _DEPTH_LIMIT:
            raise self.damaged(start, f"messages are nested more than {_DEPTH_LIMIT} deep")
        if kind is _Kind.TENSOR:
            return self.tensor(start, end)
        children = _CHILDREN[kind]
        out = bytearray()
        copied = position = start
        while position < end:
            begin = position
            field, wire, body, position = self.field(position, end)
            child = children.get(field)
            if child is None or wire != _BYTES or position - body <= INLINE_LIMIT:
                continue
            out += self.copy(copied, begin)
            inner = self.rebuild(body, position, child, depth + 1)
            out += _tagged(field, inner)
            copied = position
        out += self.copy(copied, end)
        return bytes(out)

    def tensor(self, start: int, end: int) -> bytes:
        """A TensorProto; its payload becomes a reference when it is large and raw."""
        data_type = 0
        payloads: list[tuple[int, int, int, int]] = []  # field, begin, body, end
        external = False
        position = start
        while position < end:
            begin = position
            field, wire, body, position = self.field(position, end)
            if field in _PAYLOADS and wire == _BYTES:
                payloads.append((field, begin, body, position))
            elif field == _DATA_TYPE and wire == _VARINT:
                data_type, _ = self.varint(body, end)
            elif field in (_EXTERNAL_DATA, _DATA_LOCATION):
                external = True
        large = [p for p in payloads if p[3] - p[2] > INLINE_LIMIT]
        if not large:
            return self.copy(start, end)
        if external:
            raise self.damaged(start, "a tensor has both inline and external data")
        field, begin, body, stop = payloads[0]
        if len(payloads) > 1 or _PAYLOADS[field] not in (None, data_type):
            # A payload in pieces, or of a type that protobuf stores otherwise: keep it, correct
            # but in memory. No exporter writes large weights so.
            return self.copy(start, end)
        entries = {"location": SELF, "offset": str(body), "length": str(stop - body)}
        reference = b"".join(
            _tagged(_EXTERNAL_DATA, _tagged(1, key.encode()) + _tagged(2, value.encode()))
            for key, value in entries.items()
        )
        return (
            self.copy(start, begin)
            + self.copy(stop, end)
            + reference
            + _encoded(_DATA_LOCATION << 3 | _VARINT)
            + b"\x01"
        )

    def field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Field number, wire type, start of the value and end of the value."""
        key, body = self.varint(position, end)
        wire = key & 7
        if wire == _BYTES:
            length, body = self.varint(body, end)
            stop = body + length
        elif wire == _VARINT:
            _, stop = self.varint(body, end)
        elif wire in (_FIXED64, _FIXED32):
            stop = body + (8 if wire == _FIXED64 else 4)
        else:
            raise self.damaged(position, f"wire type {wire} is not used by ONNX")
        if key >> 3 == 0:
            raise self.damaged(position, "a field has number 0")
        if stop > end:
            missing = stop - end
            raise self.damaged(position, f"a field ends {missing} bytes past its message")
        return key >> 3, wire, body, stop

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """The base-128 number at `position` and where it ends."""
        value = shift = 0
        while position < end and shift < 70:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
        raise self.damaged(position, "a number does not end")

    def copy(self, start: int, end: int) -> bytes:
        """Bytes kept as they are, counted against the limit of a graph without weights."""
        self.kept += end - start
        if self.kept > _GRAPH_LIMIT:
            raise ModelError(
                f"{self.path} holds more than 1 GiB outside of its weights",
                hint="save large tensors as raw_data or as external data",
            )
        return self.data[start:end]

    def damaged(self, position: int, reason: str) -> ModelError:
        """The error for bytes that are not a ModelProto."""
        return ModelError(
            f"{self.path} is damaged, cut short or not an ONNX model: {reason} (byte {position})",
            hint="export or download the model again",
        )


def _encoded(value: int) -> bytes:
    """A number as a base-128 varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tagged(field: int, body: bytes) -> bytes:
    """A length-prefixed field."""
    return _encoded(field << 3 | _BYTES) + _encoded(len(body)) + body
