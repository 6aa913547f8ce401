"""From launches to the cost of a kind of kernel, by least squares, and to rates of the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.device.spec import KindCost, Quantity
from flashmem_lab.lower.layer import OperatorClass

ROUNDS = 30
"""Of least squares; the parts hardly change any more after some ten."""


@dataclass(frozen=True, slots=True)
class Launched:
    """One layer that was measured: what it asks for and what it took."""

    kind: str
    op_class: str
    flops: int
    bytes: int
    took_ns: float


def fit_kind(launches: Sequence[Launched], source: str) -> KindCost:
    """The cost of one kind: a fixed part, a part per flop and a part per byte, none below 0.

    Of all choices of parts, each with at least one launch to spare, the one with the least sum
    of errors (three columns: every subset is tried).

    Args:
        launches: of one kind, at least one.
        source: what was measured, and when.
    """
    took = np.array([launch.took_ns for launch in launches])
    work = np.array([(1.0, launch.flops, launch.bytes) for launch in launches])
    most = max(1, min(3, len(launches) - 1))
    choices = [
        np.array(chosen) for count in range(1, most + 1) for chosen in combinations(range(3), count)
    ]
    fits = [fit for chosen in choices if (fit := _fit(work, took, chosen)) is not None]
    best = min(fits, key=lambda parts: float(_errors(work @ parts, took).sum()))
    return KindCost(
        fixed_ns=float(best[0]),
        ns_per_flop=float(best[1]),
        ns_per_byte=float(best[2]),
        error=float(np.mean(np.abs(work @ best / took - 1))),
        source=source,
    )


def memory_rate(launches: Iterable[Launched]) -> float:
    """Bytes/s of the best launch that does little but read and write."""
    streams = [one for one in launches if one.op_class == OperatorClass.ELEMENTAL.value]
    return max(one.bytes / one.took_ns for one in streams) * 1e9


def compute_rates(launches: Iterable[Launched], source: str) -> dict[str, Quantity]:
    """FLOP/s of the best launch of each operator class."""
    rates: dict[str, float] = defaultdict(float)
    for one in launches:
        rates[one.op_class] = max(rates[one.op_class], one.flops / one.took_ns * 1e9)
    return {name: Quantity(rate, source) for name, rate in rates.items() if rate}


def _fit(
    work: NDArray[np.float64], took: NDArray[np.float64], chosen: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """(3,) parts of least error with only the chosen ones, or None where one would be below 0.

    By least squares, weighted anew each time with what was told until then, so that at the end the
    derivatives of the errors are 0.
    """
    scale = work[:, chosen].max(axis=0)
    if (scale == 0).any():
        return None
    parts, told = np.zeros(3), took
    for _ in range(ROUNDS):
        weight = np.sqrt((told + took) / took) / told
        columns = work[:, chosen] / scale * weight[:, None]
        solved, *_ = np.linalg.lstsq(columns, took * weight, rcond=None)
        parts[chosen] = solved / scale
        now = work @ parts
        if (parts < 0).any() or (now <= 0).any():
            return None
        told = np.sqrt(told * now)  # half the way: otherwise it swings to and fro
    return parts


def _errors(told: NDArray[np.float64], took: NDArray[np.float64]) -> NDArray[np.float64]:
    """(launches,) (told - took)^2 / (told x took): half is as wrong as double.

    Relative errors would favour what tells too little, which is never wrong by more than 1.
    """
    return (told - took) ** 2 / (told * took)
