"""The ledger: every byte created on the device, by pool, and the budget that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flashmem_lab.errors import OutOfBudget
from flashmem_lab.plan.timeline import MemorySample, Pool

T = TypeVar("T")
_DEVICE_POOLS = (Pool.TEXTURE, Pool.BUFFER, Pool.STAGING)


class Ledger:
    """Counts what the device holds; nothing is created on the device but through `create`.

    Args:
        budget_bytes: cap on all pools together.

    Attributes:
        total: bytes that the device holds now.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.total = 0
        self._held = dict.fromkeys(_DEVICE_POOLS, 0)
        self._peaks = dict.fromkeys(_DEVICE_POOLS, 0)
        self._peak_total = 0

    def held(self, pool: Pool) -> int:
        """What a pool holds now."""
        return self._held[pool]

    def held_bytes(self) -> dict[str, int]:
        """What the device holds now, by pool; for any thread."""
        return {pool.value: held for pool, held in self._held.items()}

    def create(self, pool: Pool, size: int, name: str, make: Callable[[], T]) -> T:
        """Calls `make` if `size` more bytes keep the budget, and counts them.

        Raises:
            OutOfBudget: they would not; `make` was not called.
        """
        if self.total + size > self.budget_bytes:
            raise OutOfBudget(
                f"creating {name!r} ({size} bytes) beside the {self.total} bytes held would break "
                f"the budget of {self.budget_bytes} bytes",
                hint="the plan does not fit its own budget: plan anew",
            )
        made = make()
        self._change(pool, size)
        return made

    def release(self, pool: Pool, size: int) -> None:
        """Counts `size` bytes off `pool`; call it when the object is gone."""
        assert size <= self._held[pool], "the ledger releases what it never counted"
        self._change(pool, -size)

    def peak_bytes(self) -> dict[str, int]:
        """Highest total, and highest of each pool, by name."""
        return {"total": self._peak_total, **{p.value: b for p, b in self._peaks.items()}}

    def _change(self, pool: Pool, size: int) -> int:
        """Counts `size` bytes more; what the pool holds then."""
        held = self._held[pool] = self._held[pool] + size
        self.total += size
        if size > 0:
            self._peaks[pool] = max(self._peaks[pool], held)
            self._peak_total = max(self._peak_total, self.total)
        return held


class TimedLedger(Ledger):
    """A ledger that keeps when bytes came and went: samples, and averages over time.

    Args:
        budget_bytes: cap on all pools together.
        clock: ns.

    Attributes:
        samples: one for each change, of all runs so far.
    """

    def __init__(self, budget_bytes: int, clock: Callable[[], int]) -> None:
        super().__init__(budget_bytes)
        self.samples: list[MemorySample] = []
        self._clock = clock
        self._run = 0
        self._origin_ns = self._since_ns = clock()
        self._byte_ns = 0
        self._measured_ns = 0

    def begin_run(self, run: int, origin_ns: int) -> None:
        """Samples from here on belong to `run` and count from `origin_ns`."""
        self._run, self._origin_ns, self._since_ns = run, origin_ns, origin_ns

    def end_run(self, end_ns: int) -> None:
        """Closes the time average at `end_ns`; what comes until the next run is not part of it."""
        self._advance(end_ns)

    def average_bytes(self) -> int:
        """Time average of the total over all runs so far."""
        return round(self._byte_ns / self._measured_ns) if self._measured_ns else self.total

    def _change(self, pool: Pool, size: int) -> int:
        now = self._clock()
        self._advance(now)
        held = super()._change(pool, size)
        self.samples.append(MemorySample(now - self._origin_ns, pool, held, self._run))
        return held

    def _advance(self, now: int) -> None:
        self._byte_ns += self.total * (now - self._since_ns)
        self._measured_ns += now - self._since_ns
        self._since_ns = now
