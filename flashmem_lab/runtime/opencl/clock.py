"""The device's clock on the host's: when commands ran, in host time."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

import pyopencl as cl

_TRIES = 5


class DeviceClock:
    """Maps a queue's profiling times to `perf_counter_ns`.

    The device stamps markers between two readings of the host clock; the tightest of a few pairs
    gives the offset, to within half its width (some 10 us on a CPU device). Two calibrations, at
    both ends of a run, take up the drift between the clocks: PoCL's is not slewed by NTP.

    Args:
        queue: an idle queue with profiling.
    """

    def __init__(self, queue: cl.CommandQueue) -> None:
        self._queue = queue
        self._marks: list[tuple[int, int]] = []

    def calibrate(self) -> None:
        """Takes a reading; the queue must be idle."""
        best: tuple[int, int, int] | None = None
        for _ in range(_TRIES):
            before = perf_counter_ns()
            marker = cl.enqueue_marker(self._queue)
            marker.wait()
            after = perf_counter_ns()
            try:
                device = marker.profile.end
            except cl.Error:
                return
            if best is None or after - before < best[0]:
                best = (after - before, device, (before + after) // 2)
        assert best is not None, "at least one try"
        self._marks = [*self._marks[-1:], best[1:]]

    def span(self, event: cl.Event, enqueued_ns: int, done_ns: int) -> tuple[int, int]:
        """Start and end of a finished command, host ns, within what the host knows of it.

        Args:
            event: of a queue with profiling.
            enqueued_ns: host time before it was enqueued.
            done_ns: a host time at which it was done; with `enqueued_ns` it is also the answer
                where the device tells no times.
        """
        if not self._marks:
            return enqueued_ns, done_ns
        try:
            # Asked for as attributes of event.profile they take ten times as long (0.7 us each).
            start: Any = event.get_profiling_info(cl.profiling_info.START)
            end: Any = event.get_profiling_info(cl.profiling_info.END)
        except cl.Error:
            return enqueued_ns, done_ns
        first = min(max(self._host(start), enqueued_ns), done_ns)
        return first, min(max(self._host(end), first), done_ns)

    def _host(self, device_ns: int) -> int:
        (device0, host0), (device1, host1) = self._marks[0], self._marks[-1]
        drift = (host1 - host0) - (device1 - device0)
        share = (device_ns - device0) / (device1 - device0) if device1 > device0 else 0.0
        return device_ns - device0 + host0 + round(drift * share)
