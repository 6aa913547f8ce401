"""The runtime protocol: a Program and inputs in, outputs and a Trace out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from flashmem_lab.program.program import Program
from flashmem_lab.shown import mimebundle
from flashmem_lab.trace.trace import Trace
from flashmem_lab.units import format_bytes, format_ms

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total) from any thread; must return at once."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run gives back.

    Attributes:
        outputs: arrays by output name, of the last run, in the model's dtype and shape.
        trace: of all runs.
        first_run_ms: start of the first run (device open, program loaded) to its last output.
        warm_ms: each later run.
        compile_ms: time spent building kernels, or loading those that were kept.
        kernels_compiled: how many were compiled; the others were kept from before.
        stall_ms: time the compute lane waited for weights in the first run.
        peak_bytes: total, texture, buffer and staging, each the highest the ledger saw.
        average_bytes: time average of the total over all runs.
    """

    outputs: Mapping[str, np.ndarray]
    trace: Trace
    first_run_ms: float
    warm_ms: tuple[float, ...]
    compile_ms: float
    stall_ms: float
    peak_bytes: Mapping[str, int]
    average_bytes: int
    kernels_compiled: int = 0

    def in_words(self) -> str:
        """Peak and times in one line."""
        later = f", later runs {format_ms(min(self.warm_ms))}" if self.warm_ms else ""
        return (
            f"peak {format_bytes(self.peak_bytes['total'])} within "
            f"{format_bytes(self.trace.budget_bytes)}, "
            f"first run {format_ms(self.first_run_ms)}{later}"
        )

    def outputs_in_words(self) -> list[tuple[str, str]]:
        """What each output is called, and what it is; not its values."""
        return [
            (f"output {name}", f"{array.dtype} {list(array.shape)}")
            for name, array in self.outputs.items()
        ]

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        return mimebundle(
            f"Run of {self.trace.model} on {self.trace.device}",
            self.in_words(),
            [("stalled", format_ms(self.stall_ms)), *self.outputs_in_words()],
        )


class Runtime(Protocol):
    """Something that runs programs. Close it to release the device."""

    def run(
        self,
        program: Program,
        weights: Path | Sequence[Path],
        inputs: Mapping[str, np.ndarray],
        *,
        repeat: int = 1,
        progress: Progress | None = None,
    ) -> RunResult:
        """Runs `program` `repeat` times, the first one cold, and returns the last outputs.

        Args:
            program: what to run.
            weights: packed weight file or bundle that holds program.spans, or one file for each
                number that they name.
            inputs: one array for each of program.inputs, of its dtype and shape.
            repeat: how many runs; preloaded weights stay from one to the next.
            progress: told of kernels built and layers run.

        Raises:
            InputError: an input is missing or of the wrong dtype or shape.
            OutOfBudget: the program would hold more than its budget.
            CacheCorrupt: packed weights do not match their checksums.
            DeviceError: the device refused something.
        """
        ...

    def prepare(self, program: Program, progress: Progress | None = None) -> None:
        """Builds the kernels of `program`, and keeps them for later processes where it can.

        Raises:
            DeviceError: a kernel does not compile.
        """
        ...

    def held_bytes(self) -> Mapping[str, int]:
        """What a run holds on the device now, by pool; nothing between runs. For any thread."""
        ...

    def close(self) -> None:
        """Releases every object on the device."""
        ...
