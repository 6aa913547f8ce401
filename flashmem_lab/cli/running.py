"""The commands that move weights: run and bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flashmem_lab import workflow
from flashmem_lab.cli.common import OF_MAKING, given, planned, save_trace
from flashmem_lab.cli.console import print_json, print_table, progress_bars, say
from flashmem_lab.cli.parser import Options
from flashmem_lab.cli.targets import refuse_targets
from flashmem_lab.errors import FlashMemError, UsageError
from flashmem_lab.runtime.launching import Launching
from flashmem_lab.runtime.pagecache import PageCache
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashmem_lab.lower.layer import Port
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.trace import GraphSummary, Profile

_OF_MODELS = (
    "plan", "budget", "strategy", "optimize", "transport", "precision", "preload", "dim", "shape",
    *OF_MAKING,
)  # fmt: skip
_COSTLIEST = 10  # layers that are printed; --json has them all


def run(options: Options) -> int:
    """Runs a model or a bundle; exit code 1 if the check fails."""
    refuse_targets(options)
    if _is_bundle(options.model):
        outcome, summary = _run_bundle(options), None
    else:
        outcome, summary = _run_model(options)
    if options.launch == Launching.RECORDED:
        _tell_unrecorded(outcome, options.repeat)
    if options.output is not None:
        _save_outputs(options.output, outcome)
    if options.trace is not None:
        save_trace(outcome.result.trace, options.trace)
    if options.html is not None:
        _save_report(options.html, outcome, summary)
    if options.json:
        print_json(outcome.to_json())
    else:
        print_table(_rows(outcome), title=f"{outcome.program.model} on {outcome.device.name}")
        profile = outcome.profile
        print_table(
            _costliest(profile),
            columns=("Layer", "Kind", "Time", "Share", "Rate", "Of ceiling"),
            title=f"Costliest layers of run {profile.detailed}",
        )
    if outcome.check is not None and not outcome.check.ok:
        raise FlashMemError(
            f"the outputs differ from onnxruntime's: relative L2 error {outcome.check.rel_l2:.3g}, "
            f"at most {outcome.check.tolerance:g} is fine"
        )
    return 0


def bundle(options: Options) -> int:
    """Writes a bundle."""
    refuse_targets(options)
    prepared, _, plan, _ = planned(options)
    with progress_bars() as tell:
        compiled = workflow.save_bundle(prepared, plan, options.output, progress=tell, say=say)
    size = options.output.stat().st_size
    if options.json:
        print_json(
            {
                "schema": "flashmem-lab/bundle/1",
                "path": str(options.output),
                "bytes": size,
                "model": plan.model,
                "device": plan.device,
                "precision": plan.precision,
                "budget_bytes": plan.budget_bytes,
                "layers": len(compiled.program.layers),
                "kernels": len(compiled.program.kernels),
            }
        )
    else:
        print(f"{options.output}: {format_bytes(size)}, {len(compiled.program.layers)} layers")
    return 0


def _tell_unrecorded(outcome: Outcome, repeat: int) -> None:
    """Says so where nothing of what was asked to be recorded was."""
    if any(event.kind == "replay" for event in outcome.result.trace.timeline.events):
        return
    if repeat < 3:
        say("launches are recorded for the third run and those behind it: add --repeat")
    else:
        say(
            "launches went one by one: the device records none (OpenCL devices of this machine "
            "with cl_khr_command_buffer do), or within this budget no two in a row are the same "
            "in every run"
        )


def _is_bundle(path: Path) -> bool:
    from flashmem_lab.program import is_bundle

    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name an .onnx file or a bundle in it")
    if path.suffix == ".fmb" and not path.exists():
        raise UsageError(f"there is no bundle file {path}", hint="check the path")
    return path.is_file() and is_bundle(path)


def _run_model(options: Options) -> tuple[Outcome, GraphSummary]:
    from flashmem_lab.trace import summarize

    if options.plan is None and options.budget is None:
        options.parser.error("a model needs --budget or --plan")
    prepared, inputs, plan, plan_ms = planned(options)
    _refuse_existing(options.output, prepared.model.outputs)
    with progress_bars() as tell:
        outcome = workflow.run(
            prepared,
            plan,
            inputs,
            plan_ms=plan_ms,
            repeat=options.repeat,
            check=options.check,
            seed=options.seed,
            pages=PageCache(options.page_cache),
            launching=Launching(options.launch),
            progress=tell,
            say=say,
        )
    return outcome, summarize(prepared.model)


def _run_bundle(options: Options) -> Outcome:
    from flashmem_lab.arrays import read_inputs

    fixed = given(options, _OF_MODELS) + (["storage"] if options.storage != "auto" else [])
    if fixed:
        options.parser.error(f"a bundle is planned already, shapes and all: leave --{fixed[0]} out")
    if options.check:
        options.parser.error("--check compares with the model, which a bundle does not hold")
    bundle = workflow.open_bundle(options.model)
    _refuse_existing(options.output, bundle.program.outputs)
    device = workflow.open_device(options.device or bundle.program.device)
    with progress_bars() as tell:
        return workflow.run_bundle(
            bundle,
            device,
            read_inputs(dict(options.input)),
            repeat=options.repeat,
            seed=options.seed,
            pages=PageCache(options.page_cache),
            launching=Launching(options.launch),
            progress=tell,
        )


# --- what is saved -------------------------------------------------------------------------


def _refuse_existing(directory: Path | None, outputs: Sequence[Port]) -> None:
    from flashmem_lab.arrays import output_files

    if directory is not None:
        output_files(directory, outputs)


def _save_outputs(directory: Path, outcome: Outcome) -> None:
    from flashmem_lab.arrays import output_files, save_outputs

    if not outcome.result.outputs:
        raise UsageError(
            f"{outcome.device.id} computes no outputs to save", hint="run on an OpenCL device"
        )
    save_outputs(outcome.result.outputs, output_files(directory, outcome.program.outputs))


def _save_report(path: Path, outcome: Outcome, summary: GraphSummary | None) -> None:
    from flashmem_lab.trace import write_html

    section = outcome.report_section(outcome.program.model, summary=summary)
    write_html(path, [section], title=f"{outcome.program.model} on {outcome.device.name}")


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    figures = outcome.to_json()
    peak, expected, check = figures["peak_bytes"], figures["predicted"], outcome.check
    parts = ", ".join(f"{name} {format_bytes(peak[name])}" for name in peak if name != "total")
    stages = ", ".join(f"{name} {format_ms(took)}" for name, took in outcome.stages_ms.items())
    above = figures["host_rss_peak_bytes"] - figures["host_rss_baseline_bytes"]
    rows = [
        ("budget", format_bytes(figures["budget_bytes"])),
        ("peak", f"{format_bytes(peak['total'])} ({parts} each at its own peak)"),
        ("average", format_bytes(figures["average_bytes"])),
        (
            "weights",
            f"{format_bytes(outcome.weight_bytes)} {figures['precision']}, of which "
            f"{format_bytes(outcome.streamed_bytes)} streamed by {figures['transport']}",
        ),
        ("cold", f"{format_ms(outcome.cold_ms)}: {stages}"),
        (
            "predicted",
            f"first run {format_ms(expected['cold_ms'])}, warm {format_ms(expected['warm_ms'])}",
        ),
        ("stalled", format_ms(figures["stall_ms"])),
    ]
    if figures["preload_peak_bytes"] is not None:
        rows.insert(1, ("full preload", format_bytes(figures["preload_peak_bytes"])))
    if outcome.result.warm_ms:
        warm = sorted(outcome.result.warm_ms)
        rows.append(("warm", f"{format_ms(warm[len(warm) // 2])} (median of {len(warm)})"))
    if figures["host_rss_peak_bytes"]:
        rows.append(("host memory", f"{format_bytes(above)} above the interpreter and libraries"))
    if outcome.host_nodes:
        rows.append(("on the host", ", ".join(outcome.host_nodes)))
    rows.append(("where time went", _shares(outcome.profile)))
    if check is not None:
        verdict = "ok" if check.ok else "WRONG"
        rows.append(
            ("check", f"{verdict}: relative L2 {check.rel_l2:.2g}, largest {check.max_abs:.2g}")
        )
    return rows


def _shares(profile: Profile) -> str:
    """The parts of the run that is shown in detail."""
    run = next(one for one in profile.runs if one.run == profile.detailed)
    parts = {
        "layers": run.layers_ms,
        "launching": run.launching_ms,
        "handing over": run.handing_ms,
        "transfers": run.transfer_ms,
        "disk": run.disk_ms,
        "stalls": run.stall_ms,
        "host": run.host_ms,
    }
    told = ", ".join(f"{name} {ms / run.wall_ms:.1%}" for name, ms in parts.items() if ms)
    return f"{told} of run {run.run}, {format_ms(run.wall_ms)}"


def _costliest(profile: Profile) -> list[tuple[str, ...]]:
    run = next(one for one in profile.runs if one.run == profile.detailed)
    rows: list[tuple[str, ...]] = []
    for layer in profile.layers[:_COSTLIEST]:
        took = layer.ms + layer.launching_ms + layer.handing_ms + layer.waiting_ms
        arithmetic = layer.bound == "arithmetic"
        rate = layer.flops_per_s if arithmetic else layer.bytes_per_s
        rows.append(
            (
                layer.name,
                layer.kind,
                format_ms(took),
                f"{took / run.wall_ms:.1%}",
                f"{rate / 1e9:.1f} {'GF/s' if arithmetic else 'GB/s'}",
                f"{layer.of_ceiling:.2f}",
            )
        )
    return rows
