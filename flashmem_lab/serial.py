"""Frozen dataclasses to plain JSON values and back, refusing whatever does not fit the types.

Plans, traces and the header of a bundle are files that people edit and send around, so reading
one is strict: no coercion, no unknown field, and an error names the path of what is wrong.
Bytes become base64 text, paths and enums become text, tuples become lists, and a dataclass in a
union carries its class name under "type". A field with a default may be left out. Written here
rather than taken from a library because those coerce ("abc" into a tuple of letters, "3" into 3).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Encoder = Callable[[Any], Any]
Decoder = Callable[[Any], Any]
_TAG = "type"
_PRIMITIVES = (bool, int, float, str)


def to_plain(value: object) -> Any:
    """Dicts, lists, text, numbers, booleans and None that say the same as `value`.

    Raises:
        TypeError: the value is or holds something of a type that has no plain form.
    """
    return _encode(value)


def from_plain(data: object, type_: type[T]) -> T:
    """The value of `type_` that `to_plain` wrote as `data`; mappings come back as dicts.

    Raises:
        ValueError: `data` does not fit; the message names the path, such as `$.streamed[3].moves`.
    """
    wanted: Any = type_
    try:
        return cast("T", _decoder(wanted)(data))
    except _MisfitError as misfit:
        where = "".join(reversed(misfit.path))
        raise ValueError(f"${where}: {misfit.args[0]}") from None


class _MisfitError(Exception):
    """What is wrong; the path to it is collected on the way out, innermost part first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []


def _inside(part: str, decode: Decoder, data: object) -> Any:
    try:
        return decode(data)
    except _MisfitError as misfit:
        misfit.path.append(part)
        raise


# --- writing -------------------------------------------------------------------------------


def _encode(value: object) -> Any:
    found: Any = type(value)
    if found is object:
        raise TypeError("a bare object has no plain form")
    return _encoder(found)(value)


@cache
def _encoder(type_: Any) -> Encoder:
    """How values declared (or found) to be of this type are written."""
    origin, args = get_origin(type_), get_args(type_)
    if type_ in _PRIMITIVES or type_ is NoneType:
        return lambda value: value
    if type_ in (object, Any):
        return _encode
    if origin in (Union, UnionType):
        return _encode_tagged if any(map(is_dataclass, args)) else _encode
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        item = _encoder(args[0])
        return lambda value: [item(element) for element in value]
    if origin is tuple:
        items = [_encoder(arg) for arg in args]
        return lambda value: [encode(element) for encode, element in zip(items, value, strict=True)]
    if origin in (Mapping, dict):
        item = _encoder(args[1])
        return lambda value: {str(key): item(element) for key, element in value.items()}
    if is_dataclass(type_):
        hints = get_type_hints(type_)
        parts = [(field.name, _encoder(hints[field.name])) for field in fields(type_)]
        return lambda value: {name: encode(getattr(value, name)) for name, encode in parts}
    if isinstance(type_, type):
        if issubclass(type_, Enum):
            return lambda value: value.value
        if issubclass(type_, bytes):
            return lambda value: base64.b64encode(value).decode("ascii")
        if issubclass(type_, Path):
            return lambda value: value.as_posix()
        if issubclass(type_, tuple | list):
            return lambda value: [_encode(element) for element in value]
        if issubclass(type_, Mapping):
            return lambda value: {str(key): _encode(element) for key, element in value.items()}
    raise TypeError(f"{type_} has no plain form")


def _encode_tagged(value: object) -> Any:
    """A member of a union: a dataclass with its class name, anything else as it is."""
    if not is_dataclass(value):
        return _encode(value)
    return {_TAG: type(value).__name__, **_encode(value)}


# --- reading -------------------------------------------------------------------------------


@cache
def _decoder(type_: Any) -> Decoder:
    """How values declared to be of this type are read."""
    origin, args = get_origin(type_), get_args(type_)
    if type_ is NoneType or type_ in _PRIMITIVES:
        return _primitive(type_)
    if type_ in (object, Any):
        return _freeze
    if origin in (Union, UnionType):
        return _union(args)
    if origin is tuple:
        return _tuple(args)
    if origin in (Mapping, dict):
        return _mapping(args[1])
    if is_dataclass(type_):
        return _dataclass(cast("type", type_))
    if isinstance(type_, type):
        if issubclass(type_, Enum):
            return _enum(type_)
        if issubclass(type_, bytes):
            return _bytes
        if issubclass(type_, Path):
            return lambda data: Path(_primitive(str)(data))
    raise TypeError(f"{type_} has no plain form")


def _primitive(type_: type) -> Decoder:
    def decode(data: object) -> object:
        if type_ is float and type(data) in (int, float):  # JSON writers drop a trailing .0
            return _finite(cast("float", data))
        if type(data) is type_:
            return data
        raise _MisfitError(f"expected {type_.__name__}, found {type(data).__name__}")

    return decode


def _finite(data: float) -> float:
    """A number that JSON has: Python's reader lets NaN and Infinity pass."""
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _MisfitError(f"{number} is not a finite number")
    return number


def _freeze(data: object) -> object:
    """Any plain value, its lists as tuples."""
    if isinstance(data, list):
        return tuple(_freeze(element) for element in data)
    if isinstance(data, dict):
        return {key: _freeze(element) for key, element in data.items()}
    return data


def _union(members: tuple[Any, ...]) -> Decoder:
    records: list[Any] = [member for member in members if is_dataclass(member)]
    classes = {record.__name__: _decoder(record) for record in records}
    others = {m: _decoder(m) for m in members if m is NoneType or m in _PRIMITIVES}
    if len(classes) + len(others) != len(members):
        raise TypeError(f"a union of {members} has no plain form")

    def decode(data: object) -> object:
        if isinstance(data, dict) and classes:
            tag = data.get(_TAG)
            if tag not in classes:
                raise _MisfitError(f'"{_TAG}" is {tag!r}, expected one of {", ".join(classes)}')
            return classes[tag]({key: data[key] for key in data if key != _TAG})
        if type(data) in others:
            return data
        if type(data) is int and float in others:
            return _finite(data)
        names = ", ".join([*classes, *(member.__name__ for member in others)])
        raise _MisfitError(f"expected one of {names}, found {type(data).__name__}")

    return decode


def _tuple(args: tuple[Any, ...]) -> Decoder:
    repeated = len(args) == 2 and args[1] is Ellipsis
    items = [_decoder(arg) for arg in args if arg is not Ellipsis]
    exact = {bool, int, str}  # whose values need no further look

    def decode(data: object) -> object:
        if not isinstance(data, list | tuple):
            raise _MisfitError(f"expected a list, found {type(data).__name__}")
        if repeated and set(map(type, data)) <= {args[0]} <= exact:
            return tuple(data)  # checksums come by the hundred thousand
        if not repeated and len(data) != len(items):
            raise _MisfitError(f"expected {len(items)} elements, found {len(data)}")
        decoders = items * len(data) if repeated else items
        pairs = zip(decoders, data, strict=True)
        return tuple(_inside(f"[{at}]", item, element) for at, (item, element) in enumerate(pairs))

    return decode


def _mapping(item_type: Any) -> Decoder:
    item = _decoder(item_type)

    def decode(data: object) -> object:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise _MisfitError(f"expected a mapping with text keys, found {type(data).__name__}")
        return {key: _inside(f"[{key!r}]", item, element) for key, element in data.items()}

    return decode


def _dataclass(type_: type) -> Decoder:
    hints = get_type_hints(type_)
    decoders = {field.name: _decoder(hints[field.name]) for field in fields(type_)}
    required = [
        field.name
        for field in fields(type_)
        if field.default is MISSING and field.default_factory is MISSING
    ]

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise _MisfitError(f"expected a {type_.__name__}, found {type(data).__name__}")
        missing = [name for name in required if name not in data]
        unknown = [str(name) for name in data if name not in decoders]
        if missing or unknown:
            found = [f"no field {name!r}" for name in missing]
            found += [f"unknown field {name!r}" for name in unknown]
            raise _MisfitError(f"{type_.__name__}: {', '.join(found)}")
        return type_(**{name: _inside(f".{name}", decoders[name], data[name]) for name in data})

    return decode


def _enum(type_: type[Enum]) -> Decoder:
    members = {member.value: member for member in type_}

    def decode(data: object) -> object:
        if not isinstance(data, str | int) or data not in members:
            raise _MisfitError(f"{data!r} is none of {', '.join(map(str, members))}")
        return members[data]

    return decode


def _bytes(data: object) -> bytes:
    try:
        return base64.b64decode(cast("str", _primitive(str)(data)), validate=True)
    except (binascii.Error, ValueError):
        raise _MisfitError("not base64 text") from None
