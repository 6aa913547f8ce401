"""Values of options from what people type; a wrong one is bad usage."""

from __future__ import annotations

import argparse
from pathlib import Path

from flashmem_lab.units import Budget, parse_bytes

TRACE_SUFFIXES = (".pftrace", ".json", ".csv")


def budget(text: str) -> Budget:
    """Bytes, a share or "min"."""
    try:
        return Budget.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count of at least 1")
    return int(text)


def size(text: str) -> int:
    """Bytes, at least 1."""
    try:
        found = parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size at all")
    return found


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def seconds(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0 seconds")
    return value


def window(text: str) -> tuple[str, int, int]:
    """Name, first and last layer of a text like "NAME=10:14"."""
    name, value = _named(text)
    first, colon, last = value.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is not a range of layers like 10:14")
    return name, int(first), int(last)


def seed(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: 0 or more")
    return int(text)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def dim(text: str) -> tuple[str, int]:
    """Name and extent of a text like "NAME=VALUE"."""
    name, value = _named(text)
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is not an extent of at least 1")
    return name, int(value)


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and extents of a text like "NAME=1x3x48x320"."""
    name, value = _named(text)
    extents = value.replace(",", "x").split("x")
    if not all(extent.isdecimal() and int(extent) for extent in extents):
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is not a shape such as 1x3x48x320")
    return name, tuple(map(int, extents))


def file(text: str) -> tuple[str, Path]:
    """Name and path of a text like "NAME=FILE.npy"."""
    name, _, value = text.rpartition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE.npy")
    return name, Path(value)


def trace(text: str) -> Path:
    """A path that ends as a trace does."""
    if Path(text).suffix not in TRACE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a trace ends in {', '.join(TRACE_SUFFIXES)} (Perfetto, Chrome, table)"
        )
    return Path(text)
