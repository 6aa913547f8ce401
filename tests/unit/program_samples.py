"""Layers, weights, plans and packed files that programs are built from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import (
    Arg,
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Port,
    Precision,
    Recipe,
    Storage,
    View,
    Weight,
)
from flashmem_lab.plan.plan import (
    Objective,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.program import Packed
from flashmem_lab.program.program import (
    KernelSource,
    PackedSpan,
)

FLOATS = 64
"""Elements of every activation buffer."""


def renderer(call: KernelCall) -> KernelSource:
    return KernelSource("k", f"// {call.template} {call.params}")


def view(ref: str, size: int = FLOATS) -> View:
    return View(ref, "float32", 0, (size,), (1,))


def layer(
    index: int, reads: list[str], writes: list[str], weights: list[str], **more: Any
) -> Layer:
    args = tuple(Arg("object", name) for name in (*weights, *reads, *writes))
    call = KernelCall("map.cl", (("kind", index % 2),), args, (8,), (4,))
    return Layer(
        index=index,
        name=f"layer{index}",
        kind="map",
        op_class=OperatorClass.ELEMENTAL,
        work=more.get("work", call),
        reads=tuple(reads),
        writes=tuple(writes),
        weights=tuple(weights),
        flops=0,
        bytes_read=0,
        bytes_written=0,
        nodes=(),
    )


def weight(name: str, rows: int) -> Weight:
    return Weight(name, Storage.IMAGE2D, "float32", 4096, rows, Recipe(None, "", ()))


def model_of(layers: list[Layer], weights: list[Weight], **more: Any) -> LoweredModel:
    names = {name for item in layers for name in (*item.reads, *item.writes)}
    return LoweredModel(
        name="m",
        fingerprint="f",
        precision=Precision.FP32,
        layers=tuple(layers),
        buffers=dict.fromkeys(sorted(names), FLOATS * 4),
        weights={item.name: item for item in weights},
        constants={},
        inputs=more.get("inputs", (Port("x", "float32", (FLOATS,), view("b0")),)),
        outputs=more.get(
            "outputs", (Port("y", "float32", (FLOATS,), view(layers[-1].writes[-1])),)
        ),
    )


def packed_of(model: LoweredModel) -> Packed:
    """Spans as packing makes them, with no bytes behind."""
    spans: dict[str, PackedSpan] = {}
    offset = 4096
    for item in model.weights.values():
        blocks = item.blocks()
        spans[item.name] = PackedSpan(
            offset, item.packed_bytes, item.row_bytes, blocks[0][1], tuple(range(len(blocks)))
        )
        offset += -(-item.packed_bytes // 4096) * 4096
    return Packed(Path("packed.fmw"), "key", spans)


def plan_of(
    model: LoweredModel,
    load_at: dict[str, int],
    transport: Transport = Transport.COPY,
    *,
    slots: int = 2,
    barrier: bool = False,
    chunk_bytes: int = 1 << 19,
) -> Plan:
    """A plan that streams the weights in `load_at` and preloads the others."""
    uses = model.weight_uses()
    streamed = sorted(load_at, key=lambda name: uses[name][0])
    preloaded = sorted(uses.keys() - load_at.keys(), key=lambda name: (uses[name][0], name))
    chunks = [
        rows * w.row_bytes
        for n, w in model.weights.items()
        if n in uses
        for _, rows in w.chunks(chunk_bytes)
    ]
    copy = transport is Transport.COPY
    plan = Plan(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device="sim:test",
        strategy=Strategy.GREEDY,
        optimize=Objective.COLD,
        budget_bytes=0,
        min_budget_bytes=0,
        preload_peak_bytes=0,
        transport=transport,
        staging_bytes=slots * max(chunks, default=0) if copy else 0,
        chunk_bytes=chunk_bytes,
        preloaded=tuple(preloaded),
        barrier=barrier,
        streamed=tuple(StreamedWeight(n, load_at[n], *uses[n], ()) for n in streamed),
        status=Status.GREEDY,
        tier="",
        objective=0.0,
        bound=0.0,
        gap=0.0,
        solve_ms=0.0,
        first_plan_ms=0.0,
        predicted=Prediction(0, 0, 0.0, 0.0),
    )
    return replace(plan, budget_bytes=residency_peak(plan, model))


def residency_peak(plan: Plan, model: LoweredModel) -> int:
    """What the brief's words say is held, step by step; nothing of the builder."""
    held = [plan.staging_bytes] * len(model.layers)
    spans = [(model.weights[n].device_bytes, 0, len(held) - 1) for n in plan.preloaded]
    spans += [(model.weights[s.weight].device_bytes, s.load_at, s.last_use) for s in plan.streamed]
    spans += [(model.buffers[n], *ends) for n, ends in model.lifetimes().items()]
    for size, first, last in spans:
        for step in range(first, last + 1):
            held[step] += size
    return max(held)


def three_layers() -> LoweredModel:
    """Three layers: the weight of the middle one in chunks, the last one's used twice."""
    layers = [
        layer(0, ["b0"], ["b1"], ["w2"]),
        layer(1, ["b1"], ["b2"], ["w1"]),
        layer(2, ["b1", "b2"], ["b3"], ["w2"]),
    ]
    return model_of(layers, [weight("w2", 3), weight("w1", 20)])
