"""Random tensors that are the same on every machine, with every numpy, and in every order.

Each tensor has its own stream, keyed by the seed and its name, and each block of a tensor its own
part of the stream. Only numpy's raw bits are used, because numpy promises to keep those and not its
distributions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GENERATOR = "philox-irwin-hall-4"  # part of a model's identity: change it with the numbers drawn
BLOCK_ELEMENTS = 1 << 20  # 4 MiB of float32

# A normal draw is the sum of four uniform 16-bit numbers (Irwin-Hall): bounded at 3.46 std.
_SUM_MEAN = 4 * 65535 / 2
_SUM_STD = (4 * (65536**2 - 1) / 12) ** 0.5


@dataclass(frozen=True, slots=True)
class Normal:
    """Bell-shaped, within 3.46 std of the mean.

    Attributes:
        row: if not 0, every ``row`` numbers add up to zero but for rounding: filters that do not
            see their input's mean, as those of a net trained with BatchNorm in effect do not.
    """

    mean: float
    std: float
    row: int = 0


@dataclass(frozen=True, slots=True)
class Uniform:
    """Even between low (included) and high (excluded)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers from low (included) to high (excluded)."""

    low: int
    high: int


Distribution = Normal | Uniform | Integers


@dataclass(frozen=True, slots=True)
class Rule:
    """Which tensors are drawn, and how; see default_weights.toml for the fields' meaning."""

    match: re.Pattern[str]
    rank: int | None
    gain: float | None
    centred: bool
    distribution: Distribution

    def distribution_of(self, origin: str, rank: int, fan_in: int) -> Distribution | None:
        """The distribution of a tensor, or None if the rule does not fit it.

        Args:
            origin: name of the torch parameter that the tensor holds.
            rank: how many of the tensor's dimensions are not 1.
            fan_in: products added up per output of its consumer, 0 if it is in no product.
        """
        if self.rank not in (None, rank) or not self.match.search(origin):
            return None
        if self.gain is None:
            return self.distribution
        if not fan_in:
            return None
        return Normal(0.0, self.gain / fan_in**0.5, fan_in if self.centred else 0)


def parse_distribution(table: Mapping[str, Any]) -> Distribution:
    """Reads ``{distribution = "normal" | "uniform" | "integers", ...}``; normal if not named."""
    kind = table.get("distribution", "normal")
    if kind == "normal":
        return Normal(float(table.get("mean", 0.0)), float(table.get("std", 1.0)))
    if kind == "uniform":
        return Uniform(float(table["low"]), float(table["high"]))
    if kind == "integers":
        return Integers(int(table["low"]), int(table["high"]))
    raise ValueError(f"unknown distribution {kind!r}")


def parse_rule(table: Mapping[str, Any]) -> Rule:
    """Reads one ``[[weights]]`` table of a recipe."""
    return Rule(
        match=re.compile(table["match"]),
        rank=table.get("rank"),
        gain=table.get("gain"),
        centred=table.get("centred", False),
        distribution=parse_distribution(table),
    )


def blocks(
    distribution: Distribution, *, seed: int, name: str, count: int
) -> Iterator[NDArray[Any]]:
    """Draws ``count`` numbers, at most BLOCK_ELEMENTS at a time.

    Yields:
        One-dimensional little-endian arrays: int64 for Integers, float32 for the others.
    """
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
    row = distribution.row if isinstance(distribution, Normal) and distribution.row else 1
    block_size = max(1, BLOCK_ELEMENTS // row) * row
    for block in range(-(-count // block_size)):
        counter = np.array([0, 0, 0, block], dtype=np.uint64)
        size = min(block_size, count - block * block_size)
        raw = np.random.Philox(key=key, counter=counter).random_raw(size)
        yield _shape_bits(raw.astype("<u8", copy=False), distribution)


def draw(distribution: Distribution, *, seed: int, name: str, count: int) -> NDArray[Any]:
    """All of `blocks` in one array."""
    return np.concatenate(list(blocks(distribution, seed=seed, name=name, count=count)))


def _shape_bits(raw: NDArray[np.uint64], distribution: Distribution) -> NDArray[Any]:
    """Turns each 64 random bits into one number; exact integer sums, then float32 steps."""
    match distribution:
        case Integers(low, high):
            integers: NDArray[Any] = (raw % np.uint64(high - low)).astype("<i8")
            integers += low
            return integers
        case Uniform(low, high):
            unit: NDArray[Any] = (raw >> np.uint64(40)).astype("<f4")  # 24 bits: exact in float32
            unit *= np.float32((high - low) / (1 << 24))
            unit += np.float32(low)
            return unit
        case Normal(mean, std, row):
            parts = raw.view("<u2").reshape(4, raw.size)
            total = np.add(parts[0], parts[1], dtype=np.int32)
            total += parts[2]
            total += parts[3]
            if row:
                rows = total.reshape(-1, row)
                rows -= (rows.sum(axis=1, keepdims=True, dtype=np.int64) // row).astype(np.int32)
            else:
                total -= int(_SUM_MEAN)
            normal: NDArray[Any] = total.astype("<f4")
            normal *= np.float32(std / _SUM_STD)
            normal += np.float32(mean)
            return normal
