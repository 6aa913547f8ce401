"""The whole way from an ONNX file to outputs and a trace, in a few functions.

The command line, the views and the demo go through here. Everything heavy is imported by the
function that needs it, so that importing this module costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from flashmem_lab.devices import SIMULATED, DeviceState, devices, open_device, open_runtime
from flashmem_lab.errors import CacheCorrupt, UsageError
from flashmem_lab.fitting import make_plan
from flashmem_lab.folders import cache_directory
from flashmem_lab.outcome import Outcome, predict
from flashmem_lab.plans import load_plan, plan_document, save_plan
from flashmem_lab.prepared import Prepared, fitted, load, resident_bytes

if TYPE_CHECKING:
    import numpy as np

    from flashmem_lab.arrays import Check
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.lower import LoweredModel
    from flashmem_lab.plan import Plan
    from flashmem_lab.program import Packed
    from flashmem_lab.program.program import Program
    from flashmem_lab.runtime.base import RunResult, Runtime
    from flashmem_lab.runtime.launching import Launching
    from flashmem_lab.runtime.pagecache import PageCache

__all__ = [
    "Bundle",
    "Compiled",
    "DeviceState",
    "Outcome",
    "Prepared",
    "cache_directory",
    "compile_plan",
    "devices",
    "fitted",
    "load",
    "load_plan",
    "make_plan",
    "open_bundle",
    "open_device",
    "open_runtime",
    "plan_document",
    "predict",
    "resident_bytes",
    "run",
    "run_bundle",
    "save_bundle",
    "save_plan",
]

_HERE = "ocl:"  # how the ids of devices of this machine begin
T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total) from any thread."""

Say = Callable[[str], None]
"""Told in a sentence of something that people should know, such as a cache that was mended."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program and the packed weights that it reads; `compile_ms` is what making them took."""

    program: Program
    packed: Packed
    compile_ms: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was opened.

    Attributes:
        program: checked.
        path: the file that holds its weights, the bundle itself.
        load_ms: what opening it took.
        rss_bytes: resident set before.
    """

    program: Program
    path: Path
    load_ms: float
    rss_bytes: int


def compile_plan(
    prepared: Prepared,
    plan: Plan,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Checks the plan, packs the weights (once per model, precision and layout), builds a program.

    Raises:
        PlanError: the plan is for another model, device or precision, or breaks a rule.
        DiskFull: no room for the packed weights.
    """
    began = perf_counter()
    from flashmem_lab.plan import check_plan
    from flashmem_lab.program import build_program, pack_weights

    prepared = fitted(prepared, plan)
    check_plan(plan, prepared.model, prepared.device)
    packed = pack_weights(prepared.model, cache or cache_directory(), progress=progress)
    program = build_program(plan, prepared.model, packed)
    return Compiled(program, packed, compile_ms=_since(began))


def run(
    prepared: Prepared,
    plan: Plan,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    plan_ms: float | None = None,
    repeat: int = 1,
    check: bool = False,
    seed: int = 0,
    cache: Path | None = None,
    runtime: Runtime | None = None,
    pages: PageCache | None = None,
    launching: Launching | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Outcome:
    """Packs, builds and runs; a damaged weight cache is made anew, once.

    Args:
        prepared: from `load`.
        plan: from `make_plan` or `load_plan`.
        inputs: arrays by name; those not given are drawn from `seed`.
        plan_ms: what having the plan took; by default what making it took (`plan.solve_ms`).
        repeat: how many runs; the first is cold.
        check: compare the outputs with onnxruntime's, after everything was measured.
        seed: of inputs that are not given.
        cache: where packed weights are kept, `cache_directory()` by default.
        runtime: one that is open on the device already, with the kernels that it has built; it
            stays open. By default one is opened for this run.
        pages: what becomes of the pages of weight files that were read; of a runtime opened here.
        launching: one by one, or recorded and replayed; of a runtime opened here.
        progress: told of packing, kernel building and layers.
        say: told when the cache was mended.

    Raises:
        InputError: an input does not fit; nothing was written.
        PlanError, DiskFull, DeviceError: see `compile_plan` and `Runtime.run`.
    """
    from flashmem_lab.plan import check_plan

    if check and prepared.device.id.startswith(SIMULATED):
        raise UsageError(
            f"{prepared.device.id} computes nothing that could be checked",
            hint="run on an OpenCL device, or leave --check out",
        )
    prepared = fitted(prepared, plan)
    check_plan(plan, prepared.model, prepared.device)
    given = dict(inputs or {})
    _refuse_misfits(prepared.model, given)
    job = _Job(prepared.device, given, repeat, seed, runtime, pages, launching, progress)
    notes: list[str] = []

    def tell(note: str) -> None:
        notes.append(note)
        if say is not None:
            say(note)

    compiled, (result, arrays, open_ms) = _compile_and(
        lambda made: job.run(made.program, made.packed.path),
        prepared,
        plan,
        cache=cache,
        progress=progress,
        say=tell,
    )
    return Outcome(
        program=compiled.program,
        device=prepared.device,
        result=result,
        plan=plan,
        stages_ms=_stages(
            prepared.device,
            result,
            load=prepared.load_ms,
            plan=plan.solve_ms if plan_ms is None else plan_ms,
            pack=compiled.compile_ms,
            open=open_ms,
        ),
        rss_baseline_bytes=prepared.rss_bytes,
        check=checked(prepared, arrays, result.outputs) if check else None,
        notes=tuple(notes),
    )


def save_bundle(
    prepared: Prepared,
    plan: Plan,
    path: Path,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Compiled:
    """Writes a bundle; a damaged weight cache is made anew, once. Arguments are those of `run`.

    The kernels are built too, where the device is here, so that running the bundle need not.

    Raises:
        BundleError: something that is not a bundle is at `path`.
        PlanError, DiskFull: see `compile_plan`.
        DeviceError: a kernel does not compile.
    """
    from flashmem_lab.program import write_bundle

    compiled, _ = _compile_and(
        lambda made: write_bundle(made.program, made.packed, path),
        prepared,
        plan,
        cache=cache,
        progress=progress,
        say=say,
    )
    if prepared.device.id.startswith(_HERE):
        with closing(open_runtime(prepared.device)) as runtime:
            runtime.prepare(compiled.program, progress)
    return compiled


def _compile_and(
    use: Callable[[Compiled], T],
    prepared: Prepared,
    plan: Plan,
    *,
    cache: Path | None,
    progress: Progress | None,
    say: Say | None,
) -> tuple[Compiled, T]:
    """Compiles and uses what was made; where the cache is damaged, both once more."""
    from flashmem_lab.program import discard

    compiled = compile_plan(prepared, plan, cache=cache, progress=progress)
    try:
        return compiled, use(compiled)
    except CacheCorrupt as damage:
        if say is not None:
            say(f"{damage.message}; it was made anew")
    discard(compiled.packed)
    again = compile_plan(prepared, plan, cache=cache, progress=progress)
    compiled = replace(again, compile_ms=compiled.compile_ms + again.compile_ms)
    return compiled, use(compiled)


def open_bundle(path: Path) -> Bundle:
    """Reads a bundle's program and checks it; the weights stay where they are.

    Raises:
        BundleError: damaged, or not a bundle.
    """
    began = perf_counter()
    from flashmem_lab.program import read_bundle

    rss_bytes = resident_bytes()
    program, weights = read_bundle(path)
    return Bundle(program, weights, load_ms=_since(began), rss_bytes=rss_bytes)


def run_bundle(
    bundle: Bundle,
    device: DeviceSpec,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    repeat: int = 1,
    seed: int = 0,
    pages: PageCache | None = None,
    launching: Launching | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Runs a bundle; needs neither the model nor ONNX. Arguments are those of `run`.

    Raises:
        CacheCorrupt: its weights do not match their checksums.
        DeviceError: the device cannot hold its images.
    """
    job = _Job(device, inputs or {}, repeat, seed, None, pages, launching, progress)
    result, _, open_ms = job.run(bundle.program, bundle.path)
    return Outcome(
        program=bundle.program,
        device=device,
        result=result,
        plan=None,
        stages_ms=_stages(device, result, load=bundle.load_ms, open=open_ms),
        rss_baseline_bytes=bundle.rss_bytes,
        check=None,
    )


def _refuse_misfits(model: LoweredModel, given: Mapping[str, np.ndarray]) -> None:
    """Checks the user's arrays before anything is packed or written."""
    from flashmem_lab.runtime.ports import check_inputs

    known = {port.name for port in model.inputs}
    wanted = [port for port in model.inputs if port.name in given or not known >= given.keys()]
    check_inputs(wanted, given)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked of a program, whichever it is."""

    device: DeviceSpec
    given: Mapping[str, np.ndarray]
    repeat: int
    seed: int
    runtime: Runtime | None
    pages: PageCache | None
    launching: Launching | None
    progress: Progress | None

    def run(
        self, program: Program, weights: Path | Sequence[Path]
    ) -> tuple[RunResult, dict[str, np.ndarray], float]:
        """The result, the inputs it was made from, and what opening the device took, ms."""
        arrays = dict(self.given)
        if any(port.name not in arrays for port in program.inputs):
            from flashmem_lab.samples import sample_inputs

            arrays = {**sample_inputs(program, self.seed), **arrays}
        began = perf_counter()
        with (
            nullcontext(self.runtime)
            if self.runtime
            else closing(open_runtime(self.device, self.pages, self.launching)) as runtime
        ):
            open_ms = _since(began)
            result = runtime.run(
                program, weights, arrays, repeat=self.repeat, progress=self.progress
            )
        return result, arrays, open_ms


def _stages(device: DeviceSpec, result: RunResult, **before: float) -> dict[str, float]:
    """What the first output took; on a simulated device the model's time is all there is."""
    if device.id.startswith(SIMULATED):
        return {"first_run": result.first_run_ms}
    return {**before, "kernels": result.compile_ms, "first_run": result.first_run_ms}


def checked(
    prepared: Prepared, arrays: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> Check:
    """Compares outputs with onnxruntime's on the original file and the same inputs.

    Where the model itself computes in half precision the reference is rounded at every node, so
    no more than fp16's tolerance can be asked of the agreement.
    """
    from flashmem_lab.arrays import compare
    from flashmem_lab.graph.evaluate import reference_outputs
    from flashmem_lab.lower import Precision
    from flashmem_lab.runtime.ports import check_inputs

    exact = check_inputs(prepared.model.inputs, arrays)
    reference = reference_outputs(prepared.graph.path, exact)
    graph = prepared.graph
    made = {graph.types[name].dtype for node in graph.nodes for name in node.outputs if name}
    halves = not made.isdisjoint({"float16", "bfloat16"})
    return compare(outputs, reference, Precision.FP16 if halves else prepared.model.precision)


def _since(began: float) -> float:
    return (perf_counter() - began) * 1e3
