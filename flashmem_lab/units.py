"""Bytes, times and shares: parsing what people type, printing what people read."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MOST_BYTES = 2**62  # a plan's arrays have 64 bits; no device holds as much
_BYTES = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from "200MB" (decimal), "200MiB" (binary) or "200000000".

    Raises:
        ValueError: the text is not a size.
    """
    match = _BYTES.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size such as 200MB, 1.5GiB or 200000000")
    scale = (_BINARY if match[3] else _DECIMAL)[match[2].lower()]
    try:
        return round(float(match[1]) * scale)
    except OverflowError:
        raise ValueError(f"{text[:20]}... is larger than any memory") from None


def format_bytes(count: float) -> str:
    """Bytes for people, in decimal units: 83.9 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.95 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: GB takes every size")


def format_ms(milliseconds: float) -> str:
    """A time for people: 0.21 ms, 35.2 ms, 1.24 s."""
    if abs(milliseconds) >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.2f} ms" if abs(milliseconds) < 10 else f"{milliseconds:.1f} ms"


@dataclass(frozen=True, slots=True)
class Budget:
    """What the device may hold at once, absolute or between least feasible and full preload.

    Attributes:
        bytes: absolute bytes, or None.
        share: 0 (least feasible budget) to 1 (full preload), or None.
    """

    bytes: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.bytes is None) == (self.share is None):
            raise ValueError("a Budget has bytes or a share, one of them")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads "200MB", "30%" or "min".

        Raises:
            ValueError: the text is none of them, or a share is outside 0 to 100 %.
        """
        text = text.strip()
        if text.lower() == "min":
            return cls(share=0.0)
        if text.endswith("%"):
            try:
                share = float(text[:-1]) / 100
            except ValueError:
                raise ValueError(f"{text!r} is not a share such as 30%") from None
            if not 0 <= share <= 1:
                raise ValueError(f"{text!r}: a share runs from 0% (least) to 100% (full preload)")
            return cls(share=share)
        size = parse_bytes(text)
        if size == 0:
            raise ValueError("a budget of 0 bytes holds nothing; 0% is the least feasible one")
        return cls(bytes=size)

    def resolve(self, least: int, preload: int) -> int:
        """Bytes of this budget for a model that needs `least` and preloads in `preload` bytes."""
        if self.bytes is not None:
            return min(self.bytes, _MOST_BYTES)
        assert self.share is not None, "a Budget has bytes or a share"
        return least + round(self.share * max(0, preload - least))
