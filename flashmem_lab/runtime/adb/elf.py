"""As much of ELF as building for Android asks for: what object files leave undefined."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB = 2


def undefined_symbols(paths: Iterable[Path]) -> set[str]:
    """Names that object files of a 64-bit little-endian machine use, and none of them defines.

    Raises:
        ValueError: one is no such file.
    """
    used: set[str] = set()
    defined: set[str] = set()
    for path in paths:
        for name, is_defined in _symbols(path.read_bytes(), path.name):
            (defined if is_defined else used).add(name)
    return used - defined


def _symbols(data: bytes, name: str) -> Iterator[tuple[str, bool]]:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{name} is no object file")
    header = _HEADER.unpack_from(data)
    at, size, count = header[6], header[11], header[12]
    sections = [_SECTION.unpack_from(data, at + size * one) for one in range(count)]
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        names = sections[section[6]][4]
        for offset in range(section[4], section[4] + section[5], _SYMBOL.size):
            place, _, _, defined_in, _, _ = _SYMBOL.unpack_from(data, offset)
            if place:
                end = data.index(b"\0", names + place)
                yield data[names + place : end].decode(), defined_in != 0
