"""The memory order of a run on the device's clock: what samples and averages are made of."""

from __future__ import annotations

from collections.abc import Mapping

from flashmem_lab.plan.timeline import MemorySample, Pool
from flashmem_lab.program.program import Alloc, Program
from flashmem_lab.runtime.ledger import TimedLedger


class Booking:
    """Books each memory command when it takes effect on the device, when the run is over.

    The host runs ahead: it ends an object long before the device has used it. On the device an
    object ends with the last command that uses it, and memory commands keep their order. Blocks
    that have ended and wait for another object count as free here; the ledger of the blocks
    themselves keeps all of them together below the highest that is booked.

    Args:
        program: whose memory order.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._now_ns = 0
        self._ledger = TimedLedger(program.budget_bytes, lambda: self._now_ns)

    @property
    def samples(self) -> tuple[MemorySample, ...]:
        """Of all runs so far."""
        return tuple(self._ledger.samples)

    def average_bytes(self) -> int:
        """Time average over all runs so far."""
        return self._ledger.average_bytes()

    def peak_bytes(self) -> dict[str, int]:
        """Highest total, and highest of each pool, by name."""
        return self._ledger.peak_bytes()

    def book(
        self,
        number: int,
        between_ns: tuple[int, int],
        made_ns: Mapping[int, int],
        spans: Mapping[int, tuple[int, int]],
    ) -> None:
        """Books a run.

        Args:
            number: 0 for the cold run.
            between_ns: its start and end, host time.
            made_ns: when the host carried out each Alloc, by id; without those of objects that have
                lasting places, which begin when the memory order comes to them.
            spans: start and end of each command of the compute lane, by id.
        """
        start_ns, end_ns = between_ns
        program, ledger = self._program, self._ledger
        self._now_ns = start_ns
        ledger.begin_run(number, start_ns)
        if program.staging_bytes and number == 0:
            ledger.create(Pool.STAGING, program.staging_bytes, "staging ring", lambda: None)
        for command in program.memory:
            item = program.objects[command.object]
            if isinstance(command, Alloc):
                if number and command.once:
                    continue  # made in the first run
                self._now_ns = max(self._now_ns, made_ns.get(command.id, start_ns))
                ledger.create(item.pool, item.bytes, item.name, lambda: None)
            else:
                used_ns = max((spans[one][1] for one in command.after if one in spans), default=0)
                self._now_ns = min(max(self._now_ns, used_ns), end_ns)
                ledger.release(item.pool, item.bytes)
        self._now_ns = end_ns
        ledger.end_run(end_ns)
