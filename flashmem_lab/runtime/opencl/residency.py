"""The resident set of this process, sampled while a run goes on."""

from __future__ import annotations

import threading
from time import perf_counter_ns
from types import TracebackType

import psutil

_INTERVAL_S = 0.02
"""A sample takes 0.25 ms of a processor that computes, the waking of its thread included."""


class ResidencySampler:
    """Samples the process's resident set on a thread of its own, between enter and exit.

    Attributes:
        samples: (host ns, bytes), in order; the first is taken before anything else happens.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="flashmem-rss", daemon=True)
        self.samples: list[tuple[int, int]] = []

    def __enter__(self) -> ResidencySampler:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def sample(self) -> None:
        """Takes one sample now."""
        self.samples.append((perf_counter_ns(), self._process.memory_info().rss))

    def _sample_on(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self.sample()
