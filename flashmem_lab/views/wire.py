"""Values for the browser: a JSON header and typed arrays in one buffer.

Numbers never travel as JSON. A buffer is "FML1", the header's length, the header padded to eight
bytes, then the arrays, each padded to eight bytes, so that the browser reads them in place. All
little-endian. Mirrored by widgets/src/core/wire.ts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_MAGIC = b"FML1"
_ALIGN = 8
_TYPES = ("u1", "u4", "i4", "f4", "f8")


def encode(schema: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """One buffer with everything.

    Args:
        schema: says what it is; the browser refuses another one.
        header: JSON values, words and single numbers.
        arrays: one-dimensional, of uint8, uint32, int32, float32 or float64.
    """
    entries: dict[str, dict[str, int | str]] = {}
    body: list[bytes] = []
    at = 0
    for name, array in arrays.items():
        kind = array.dtype.newbyteorder("<").str[1:]
        assert kind in _TYPES, f"{name}: the browser is not told of {array.dtype}"
        data = array.astype(f"<{kind}").tobytes()
        entries[name] = {"type": kind, "at": at, "length": array.size}
        body += [data, b"\0" * (-len(data) % _ALIGN)]
        at += len(data) + -len(data) % _ALIGN
    text = json.dumps({"schema": schema, **header, "arrays": entries}).encode()
    text += b" " * (-len(text) % _ALIGN)
    return b"".join([_MAGIC, len(text).to_bytes(4, "little"), text, *body])
