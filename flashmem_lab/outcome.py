"""The Outcome value: what a run was, what it gave and what it cost, beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.shown import mimebundle
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    from flashmem_lab.arrays import Check
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.plan import Plan
    from flashmem_lab.program.program import Program
    from flashmem_lab.runtime.base import RunResult
    from flashmem_lab.trace import GraphSummary, Profile, ReportSection, Trace

SCHEMA = "flashmem-lab/run/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call of `workflow.run` or `workflow.run_bundle`.

    Attributes:
        program: what ran.
        device: where.
        result: outputs, measured trace, times and peaks.
        plan: what the program was built from; None for a bundle.
        stages_ms: what the first output took, in order: load, plan, pack, open, kernels, first_run.
        rss_baseline_bytes: resident set before the model was opened, imports done.
        check: comparison with onnxruntime, if one was asked for.
        notes: what people should know, such as a cache that was mended.
    """

    program: Program
    device: DeviceSpec
    result: RunResult
    plan: Plan | None
    stages_ms: Mapping[str, float]
    rss_baseline_bytes: int
    check: Check | None
    notes: tuple[str, ...] = ()

    @property
    def cold_ms(self) -> float:
        """From the model's path to the first output, everything in between included."""
        return sum(self.stages_ms.values())

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights that pass through the device."""
        return self._weights(streamed=True) + self._weights(streamed=False)

    @property
    def streamed_bytes(self) -> int:
        """Those that are read in every run."""
        return self._weights(streamed=True)

    @property
    def preloaded_bytes(self) -> int:
        """Those that stay from the first run on."""
        return self._weights(streamed=False)

    @property
    def predicted(self) -> Trace:
        """The simulated trace of the same program and as many runs, at least two."""
        return predict(self.program, self.device, 1 + len(self.result.warm_ms))

    @property
    def profile(self) -> Profile:
        """Where the time of each run went, and what each layer took of the shortest."""
        from flashmem_lab.trace import profile_of

        walls_ms = (self.result.first_run_ms, *self.result.warm_ms)
        return profile_of(self.result.trace, walls_ms, self.program.costs, self.device)

    @property
    def host_nodes(self) -> tuple[str, ...]:
        """Names of the layers that ran on the host, row fetches left out."""
        from flashmem_lab.lower.layer import HostCall
        from flashmem_lab.program.program import HostStep

        return tuple(
            command.name
            for command in self.program.compute
            if isinstance(command, HostStep) and isinstance(command.work, HostCall)
        )

    @property
    def storage(self) -> str:
        """Where the weights were held: "image2d", or "buffer" if there is not one image."""
        kinds = {item.kind.value for item in self.program.objects.values()}
        return "image2d" if "image2d" in kinds else "buffer"

    def _weights(self, *, streamed: bool) -> int:
        from flashmem_lab.plan.timeline import Pool
        from flashmem_lab.program.program import Alloc

        found = {
            command.object: self.program.objects[command.object]
            for command in self.program.memory
            if isinstance(command, Alloc) and command.once is not streamed
        }
        return sum(item.bytes for item in found.values() if item.pool is Pool.TEXTURE)

    def report_section(
        self,
        title: str,
        *,
        summary: GraphSummary | None = None,
        beside: Mapping[str, Outcome] | None = None,
        text: str = "",
    ) -> ReportSection:
        """This run as a section of a report.

        Args:
            title: heading.
            summary: of the model; a bundle has none.
            beside: further runs to compare with, by label.
            text: a sentence or two below the heading.
        """
        from flashmem_lab.trace import ReportSection, RunRow

        program, plan = self.program, self.plan
        labelled = {program.strategy: self, **(beside or {})}
        return ReportSection(
            title=title,
            device=f"{self.device.id}, {self.device.name}",
            precision=program.precision,
            strategy=program.strategy,
            runs=[RunRow.of(label, one.to_json()) for label, one in labelled.items()],
            budget_bytes=program.budget_bytes,
            min_budget_bytes=plan.min_budget_bytes if plan else program.predicted_peak_bytes,
            preload_peak_bytes=plan.preload_peak_bytes if plan else program.predicted_peak_bytes,
            text=text,
            summary=summary,
            predicted=self.predicted,
            measured=self.result.trace,
        )

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        program, result = self.program, self.result
        check = self.check
        return mimebundle(
            f"Run of {program.model} on {self.device.id}, {self.device.name}",
            result.in_words(),
            [
                ("strategy", f"{program.strategy}, {program.precision} weights"),
                ("predicted peak", format_bytes(program.predicted_peak_bytes)),
                ("stalled", format_ms(result.stall_ms)),
                (
                    "onnxruntime",
                    f"{'the same' if check.ok else 'other outputs'}, relative error "
                    f"{check.rel_l2:.1e}"
                    if check
                    else "",
                ),
                *result.outputs_in_words(),
                *(("note", note) for note in self.notes),
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The figures of `run --json`; see the README for what each one means."""
        from flashmem_lab.trace.statistics import statistics

        program, result, plan = self.program, self.result, self.plan
        cold, warm = statistics(self.predicted).runs[:2]
        return {
            "schema": SCHEMA,
            "model": program.model,
            "device": self.device.id,
            "device_name": self.device.name,
            "strategy": program.strategy,
            "precision": program.precision,
            "transport": program.transport.value,
            "storage": self.storage,
            "budget_bytes": program.budget_bytes,
            "min_budget_bytes": plan.min_budget_bytes if plan else None,
            "preload_peak_bytes": plan.preload_peak_bytes if plan else None,
            "weight_bytes": self.weight_bytes,
            "preloaded_bytes": self.preloaded_bytes,
            "streamed_bytes": self.streamed_bytes,
            "peak_bytes": {
                name: result.peak_bytes[name] for name in ("total", "texture", "buffer", "staging")
            },
            "average_bytes": result.average_bytes,
            "host_rss_peak_bytes": result.peak_bytes.get("host", 0),
            "host_rss_baseline_bytes": self.rss_baseline_bytes,
            "cold_ms": self.cold_ms,
            "stages_ms": dict(self.stages_ms),
            "kernels_compiled": result.kernels_compiled,
            "first_run_ms": result.first_run_ms,
            "warm_ms": list(result.warm_ms),
            "stall_ms": result.stall_ms,
            "predicted": {
                "peak_bytes": program.predicted_peak_bytes,
                "average_bytes": cold.average_bytes,
                "cold_ms": cold.duration_ns / 1e6,
                "warm_ms": warm.duration_ns / 1e6,
            },
            "check": asdict(self.check) if self.check else None,
            "profile": self.profile.to_json(),
            "layers": len(program.layers),
            "host_nodes": list(self.host_nodes),
            "notes": list(self.notes),
        }


def predict(program: Program, device: DeviceSpec, runs: int = 1) -> Trace:
    """The simulated trace of a program on a device's rates; at least one warm run is in it."""
    from flashmem_lab.runtime.simulated import SimulatedRuntime

    return SimulatedRuntime(device).run(program, Path(), {}, repeat=max(2, runs)).trace
