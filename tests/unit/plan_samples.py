"""Small lowered models and devices to plan for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from flashmem_lab.device import (
    HostTimes,
    KindCost,
    Quantity,
    Reading,
    Transport,
    simulated_devices,
)
from flashmem_lab.lower.layer import (
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Precision,
    Recipe,
    Storage,
    Weight,
)

PHONE = simulated_devices()["sim:adreno750"]
NOTHING = KernelCall("none.cl", (), (), (1,), (1,))


def layers_model(
    specs: list[tuple[OperatorClass, int, int, tuple[int, ...]]], weights: list[int]
) -> LoweredModel:
    """A chain of layers (class, flops, output bytes, weights used) with weights of `rows` rows."""
    made = {
        f"w{at}": Weight(f"w{at}", Storage.IMAGE2D, "float32", 64, rows, Recipe(None, "", ()))
        for at, rows in enumerate(weights)
    }
    layers = tuple(
        Layer(
            index=at,
            name=f"layer{at}",
            kind="gemm",
            op_class=op_class,
            work=NOTHING,
            reads=(f"a{at - 1}",) if at else ("in",),
            writes=(f"a{at}",),
            weights=tuple(dict.fromkeys(f"w{name}" for name in used)),
            flops=flops,
            bytes_read=size,
            bytes_written=size,
            nodes=(),
        )
        for at, (op_class, flops, size, used) in enumerate(specs)
    )
    buffers = {"in": 4096, **{f"a{at}": spec[2] for at, spec in enumerate(specs)}}
    return LoweredModel("m", "f" * 16, Precision.FP32, layers, buffers, made, {}, (), ())


@st.composite
def models(draw: st.DrawFn, most: int = 12, *, shared: bool = True) -> LoweredModel:
    """Chains of layers; if `shared`, layers with several weights and weights with two uses."""
    rows = draw(st.lists(st.integers(1, 3000), min_size=1, max_size=most))
    count = draw(st.integers(1, most)) if shared else len(rows)
    uses: list[list[int]] = [[] for _ in range(count)]
    for weight in range(len(rows)):
        several = st.sets(st.integers(0, count - 1), min_size=1, max_size=2)
        for layer in draw(several) if shared else {weight}:
            uses[layer].append(weight)
    specs = [
        (
            draw(st.sampled_from(OperatorClass)),
            draw(st.integers(0, 10**9)),
            draw(st.integers(4, 10**6)),
            tuple(used),
        )
        for used in uses
    ]
    return layers_model(specs, rows)


PROFILED = {"gemm": KindCost(5e4, 1e-3, 2e-2, 0.1, "drawn")}
devices = st.builds(
    lambda disk, upload, transport, kinds, contention, slow_first: replace(
        PHONE,
        disk=Quantity(disk * 1e8, "drawn"),
        upload=Quantity(upload * 1e9, "drawn"),
        transport=transport,
        kinds=kinds,
        contention=Quantity(contention, "drawn"),
        first_run=Reading(
            Quantity(disk * 5e7, "drawn"),
            Quantity(contention + 0.5, "drawn"),
            Quantity(1000.0 * disk, "drawn"),
        )
        if slow_first
        else None,
        first_launch_ns=Quantity(2000.0 * disk, "drawn"),
    ),
    st.integers(1, 100),
    st.integers(1, 50),
    st.sampled_from([Transport.COPY, Transport.MAP]),
    st.sampled_from([{}, PROFILED]),
    st.sampled_from([0.0, 0.07, 1.0]),
    st.booleans(),
)
with_hosts = st.builds(
    lambda device, times: replace(
        device, host=HostTimes(*(Quantity(float(ns), "drawn") for ns in times))
    ),
    devices,
    st.tuples(*(st.integers(0, most) for most in (10**6, 10**6, 10, 10**6, 10**6, 10**6))),
)
"""Later runs are planned with what the host takes, and all runs are predicted with it."""
shares = st.floats(0, 1)
SAMPLE = layers_model(
    [
        (OperatorClass.REUSABLE, 10**8, 5000, (0,)),
        (OperatorClass.ELEMENTAL, 10**6, 6000, ()),
        (OperatorClass.REUSABLE, 10**8, 5000, (1, 2)),
        (OperatorClass.HIERARCHICAL, 10**6, 4000, ()),
        (OperatorClass.REUSABLE, 10**9, 9000, (3, 0)),
        (OperatorClass.REUSABLE, 10**8, 1000, (4,)),
    ],
    [700, 2500, 300, 5000, 900],
)
