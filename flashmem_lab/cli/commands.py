"""The commands that only look: devices, inspect, plan, zoo."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from math import prod
from typing import TYPE_CHECKING, Any

from flashmem_lab import workflow
from flashmem_lab.cli.common import make_plan, prepare
from flashmem_lab.cli.console import print_json, print_table, progress_bars, say
from flashmem_lab.cli.parser import Options
from flashmem_lab.cli.targets import refuse_targets
from flashmem_lab.errors import DeviceError, UnsupportedOperators
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec, Limits
    from flashmem_lab.lower.layer import Layout
    from flashmem_lab.plan import Plan

_INSPECT = "flashmem-lab/inspect/1"
_LOOKING = "sim:pocl"  # for `inspect`, which needs no device that works


def devices(options: Options) -> int:
    """Lists devices; the working ones come with how their numbers are known."""
    found = workflow.devices()
    if options.json:
        listed = [
            {
                "id": state.spec.id,
                "name": state.spec.name,
                "driver": state.spec.driver,
                "kind": state.spec.kind,
                "works": not state.problem,
                "problem": state.problem,
                "transport": state.spec.transport.value,
                "limits": asdict(state.spec.limits),
            }
            for state in found
        ]
        print_json({"schema": "flashmem-lab/devices/1", "devices": listed})
        return 0
    print_table(
        (
            (
                state.spec.id,
                state.spec.name,
                state.spec.driver,
                *_limits(state.spec.limits),
                state.problem or ("simulated" if state.spec.driver == "simulated" else "works"),
            )
            for state in found
        ),
        columns=("id", "name", "driver", "memory", "largest image", "state"),
    )
    return 0


def _limits(limits: Limits) -> tuple[str, str]:
    """Memory and largest image, of a device that could be asked."""
    if not limits.global_memory:
        return "?", "?"
    return format_bytes(limits.global_memory), f"{limits.image_width} x {limits.image_height}"


def inspect(options: Options) -> int:
    """What a model is made of."""
    from flashmem_lab.trace import summarize

    device = _some_device(options.device)
    try:
        prepared, _ = prepare(options, device)
    except UnsupportedOperators as error:
        if options.json:
            found = {"name": options.model.stem, "unsupported": error.operators}
            print_json({"schema": _INSPECT, **found})
        raise
    graph, model = prepared.graph, prepared.model
    summary = summarize(model)
    params = sum(prod(ref.shape) for ref in graph.weights.values())
    macs = sum(layer.flops for layer in model.layers if layer.op_class.value == "reusable") // 2
    if options.json:
        data: dict[str, Any] = {
            "schema": _INSPECT,
            **asdict(summary),
            "opset": graph.opset,
            "nodes": len(graph.nodes),
            "device": device.id,
            "precision": model.precision.value,
            "params": params,
            "macs": macs,
            "unsupported": [],
            "inputs": {port.name: [port.dtype, list(port.shape)] for port in model.inputs},
            "outputs": {port.name: [port.dtype, list(port.shape)] for port in model.outputs},
            "layout": asdict(model.layout),
        }
        if options.layers:
            data["layer_list"] = [
                {
                    "index": layer.index,
                    "name": layer.name,
                    "kind": layer.kind,
                    "op_class": layer.op_class.value,
                    "flops": layer.flops,
                    "weights": list(layer.weights),
                    "nodes": list(layer.nodes),
                    "parts": [asdict(part) for part in layer.parts],
                }
                for layer in model.layers
            ]
        print_json(data)
        return 0
    gone = sum(summary.eliminated.values())
    largest = f"{format_bytes(summary.largest_weight_bytes)}, {summary.largest_weight}"
    rows = [
        ("file", f"{graph.path.name}, opset {graph.opset}, {len(graph.nodes)} nodes"),
        *(("input", f"{p.name}  {p.dtype}{list(p.shape)}") for p in model.inputs),
        *(("output", f"{p.name}  {p.dtype}{list(p.shape)}") for p in model.outputs),
        ("parameters", f"{params / 1e6:.1f} M"),
        ("MACs", f"{macs / 1e9:.2f} G"),
        ("layers", f"{summary.layers} on {device.id} ({gone} nodes fused or free)"),
        ("classes", ", ".join(f"{count} {name}" for name, count in summary.classes.items())),
        ("kernels", ", ".join(f"{count} {name}" for name, count in summary.kinds.items())),
        (
            "weights",
            f"{summary.weights}, {format_bytes(summary.weight_bytes)} as {model.precision}",
        ),
        ("largest", largest),
        *_layout_rows(model.layout),
        ("on the host", ", ".join(summary.host_layers) or "nothing"),
    ]
    print_table(rows, title=model.name)
    if options.layers:
        print_table(
            (
                (
                    str(layer.index),
                    layer.name,
                    layer.kind,
                    layer.op_class.value,
                    format_bytes(sum(model.weights[name].device_bytes for name in layer.weights)),
                    f"{layer.flops / 1e6:.2f}",
                )
                for layer in model.layers
            ),
            columns=("layer", "name", "kernel", "class", "weights", "MFLOP"),
        )
    return 0


def _layout_rows(layout: Layout) -> list[tuple[str, str]]:
    """How many nodes that only move elements are free, and why copies remain."""
    remain = f"{len(layout.copies)} copies remain" if layout.copies else "no copy remains"
    reasons = Counter(copy.reason for copy in layout.copies)
    return [
        ("layout", f"{layout.free} of {layout.nodes} nodes that only move cost nothing; {remain}"),
        *(("copies", f"{count}: {reason}") for reason, count in reasons.most_common()),
    ]


def plan(options: Options) -> int:
    """Plans, and saves the plan if asked to."""
    refuse_targets(options)
    device = workflow.open_device(options.device or "auto")
    prepared, _ = prepare(options, device)
    made = make_plan(options, prepared)
    if options.output is not None:
        workflow.save_plan(made, options.output)
    document = workflow.plan_document(made, workflow.fitted(prepared, made).model)
    if options.json:
        print_json(document)
        return 0
    expected = made.predicted
    rows = [
        ("device", f"{device.id}, {device.name}"),
        ("strategy", f"{made.strategy} for {made.optimize}, {made.status}, gap {made.gap:.1%}"),
        ("budget", format_bytes(made.budget_bytes)),
        ("least budget", format_bytes(made.min_budget_bytes)),
        ("full preload", format_bytes(made.preload_peak_bytes)),
        ("preloaded", f"{len(made.preloaded)}, {format_bytes(document['preloaded_bytes'])}"),
        ("streamed", f"{len(made.streamed)}, {format_bytes(document['streamed_bytes'])}"),
        ("transport", made.transport.value),
        ("peak", f"{format_bytes(expected.peak_bytes)} (exact)"),
        ("average", f"{format_bytes(expected.average_bytes)} (predicted)"),
        ("cold run", f"{format_ms(expected.cold_ms)} (predicted)"),
        ("warm run", f"{format_ms(expected.warm_ms)} (predicted)"),
        *([("fell back to", made.tier)] if made.tier else []),
        *([("over capacity", _over(made))] if made.over_capacity else []),
        *([("split", _undone(made))] if made.undone_fusions else []),
        ("planned in", format_ms(made.solve_ms)),
    ]
    print_table(rows, title=f"{made.model}, {made.precision}")
    return 0


def _over(plan: Plan) -> str:
    waited = sum(over.ms for over in plan.over_capacity)
    return f"before {len(plan.over_capacity)} layers, {format_ms(waited)} in all"


def _undone(plan: Plan) -> str:
    gained = plan.fusion_gain
    told = format_bytes(gained) if plan.optimize == "memory" else format_ms(gained)
    return f"{len(plan.undone_fusions)} fusions undone, which took {told} off the objective"


def zoo_list(options: Options) -> int:
    """The models of the zoo, the paper's first, beside what the paper says of them."""
    from flashmem_lab import zoo

    entries = sorted(map(zoo.entry, zoo.names()), key=lambda entry: entry.paper is None)
    if options.json:
        listed = [
            {
                "name": entry.name,
                "title": entry.title,
                "note": entry.note,
                "reference": entry.reference,
                "params": entry.params,
                "macs": entry.macs,
                "nodes": entry.nodes,
                "paper": asdict(entry.paper) if entry.paper else None,
                "data_bytes": entry.data_bytes,
                "inputs": {spec.name: [spec.dtype, list(spec.shape)] for spec in entry.inputs},
                "outputs": {name: list(shape) for name, shape in entry.outputs.items()},
            }
            for entry in entries
        ]
        print_json({"schema": "flashmem-lab/zoo/1", "models": listed})
        return 0
    print_table(
        (
            (
                entry.name,
                f"{entry.params / 1e6:.1f}",
                f"{entry.paper.params_m:g}" if entry.paper else "",
                f"{entry.macs / 1e9:.1f}",
                f"{entry.paper.macs_g:g}" if entry.paper else "",
                f"{entry.nodes}",
                f"{entry.paper.layers}" if entry.paper else "",
                format_bytes(entry.data_bytes),
            )
            for entry in entries
        ),
        columns=(
            "name",
            "params, M",
            "paper's",
            "MACs, G",
            "paper's",
            "nodes",
            "paper's layers",
            "data, fp32",
        ),
        title="nodes: of the exported ONNX graph, before fusion; `inspect` tells a model's layers",
    )
    print()
    print_table(
        ((entry.name, f"{entry.title}. {entry.note}".rstrip()) for entry in entries),
        columns=("name", "what it is, and where the public model is not the paper's"),
    )
    return 0


def zoo_make(options: Options) -> int:
    """Writes a model of the zoo."""
    from flashmem_lab import zoo

    with progress_bars() as tell:
        path = zoo.make(
            options.name,
            options.output,
            seed=options.seed,
            force=options.force,
            progress=lambda done, total: tell(f"drawing {options.name}", done, total),
        )
    if options.json:
        print_json({"schema": "flashmem-lab/zoo/1", "name": options.name, "path": str(path)})
    else:
        print(path)
    return 0


def _some_device(device_id: str | None) -> DeviceSpec:
    if device_id is not None:
        return workflow.open_device(device_id)
    try:
        return workflow.open_device("auto")
    except DeviceError:
        say(f"no OpenCL device works here, so layers are those of {_LOOKING}")
        return workflow.open_device(_LOOKING)
