"""Fixtures for tests that run on every OpenCL device found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import (
    Arg,
    HostCall,
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Port,
    Precision,
    Recipe,
    RowFetch,
    Storage,
    View,
    Weight,
)
from flashmem_lab.plan.plan import (
    Move,
    Objective,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.program import Packed, build_program, pack_weights
from flashmem_lab.program.program import KernelSource, Program
from flashmem_lab.runtime.opencl import OpenCLRuntime, list_devices, open_runtime, working

_IDS = [device.id for device in list_devices()]
_SLOTS = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.device)


@pytest.fixture(scope="session", params=_IDS or [None])
def device_id(request: pytest.FixtureRequest) -> str:
    """Every OpenCL device that can compile and run a kernel."""
    if request.param is None:
        pytest.fail("no OpenCL device; `make test` installs PoCL, Debian's pocl-opencl-icd")
    if wrong := working(request.param):
        pytest.fail(f"{request.param}: {wrong}")
    return str(request.param)


@pytest.fixture(scope="session")
def runtime(device_id: str) -> Iterator[OpenCLRuntime]:
    with open_runtime(device_id) as opened:
        yield opened


@dataclass(frozen=True)
class Chain:
    """y = ((x * 0.5 + W0) * 0.5 + W1) ..., one weight a layer; what tests run.

    Attributes:
        program, packed: ready to run.
        model, plan: what they were made of.
        x: an input.
        y: what it gives, float64.
    """

    program: Program
    packed: Packed
    model: LoweredModel
    plan: Plan
    x: np.ndarray
    y: np.ndarray

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {"x": self.x}


_IMAGE_KERNEL = """
__kernel void fma4(__global const float* x, __read_only image2d_t w, __global float* y,
                   const int width, const float a) {
  const int c = get_global_id(0), r = get_global_id(1), i = r * width + c;
  vstore4(vload4(i, x) * a + read_imagef(w, (int2)(c, r)), i, y);
}
"""
_BUFFER_KERNEL = """
__kernel void fma4(__global const float* x, __global const float* w, __global float* y,
                   const int width, const float a) {
  const int i = get_global_id(1) * width + get_global_id(0);
  vstore4(vload4(i, x) * a + vload4(i, w), i, y);
}
"""


def _render(call: KernelCall) -> KernelSource:
    return KernelSource("fma4", _IMAGE_KERNEL if call.template == "image" else _BUFFER_KERNEL)


@pytest.fixture
def make_chain(tmp_path: Path) -> Callable[..., Chain]:
    """Builds a Chain; keywords: see `_make`."""

    def make(**changes: object) -> Chain:
        return _make(tmp_path, **changes)  # type: ignore[arg-type]

    return make


def _make(
    folder: Path,
    *,
    layers: int = 4,
    width: int = 96,
    height: int = 700,
    precision: Precision = Precision.FP32,
    storage: Storage = Storage.IMAGE2D,
    transport: Transport = Transport.MAP,
    preloaded: Sequence[int] = (),
    ahead: int = 1,
    barrier: bool = False,
) -> Chain:
    """A chain of `layers` weights of width x height texels, each loaded `ahead` layers early."""
    rng = np.random.default_rng(7)
    dtype = "float16" if precision is Precision.FP16 else "float32"
    arrays = [rng.standard_normal((height, 4 * width)).astype(np.float32) for _ in range(layers)]
    image = storage is Storage.IMAGE2D
    weights = {
        f"w{i}": Weight(
            name=f"w{i}",
            storage=storage,
            dtype=dtype if image else "float32",
            width=width if image else width * 4 * height,
            height=height if image else 1,
            recipe=Recipe(None, f"c{i}", ()),
        )
        for i in range(layers)
    }
    size = width * 4 * height
    view = View("b0", "float32", 0, (height, 4 * width), (4 * width, 1))
    model = LoweredModel(
        name="chain",
        fingerprint="f00d",
        precision=precision,
        layers=tuple(
            _layer(i, width, height, "image" if image else "buffer") for i in range(layers)
        ),
        buffers={f"b{i}": 4 * size for i in range(layers + 1)},
        weights=weights,
        constants={f"c{i}": ("float32", a.shape, a.tobytes()) for i, a in enumerate(arrays)},
        inputs=(Port("x", "float32", view.shape, view),),
        outputs=(Port("y", "float32", view.shape, replace(view, ref=f"b{layers}")),),
    )
    plan = plan_for(model, transport=transport, preloaded=preloaded, ahead=ahead, barrier=barrier)
    packed = pack_weights(model, folder)
    x = rng.standard_normal(view.shape).astype(np.float32)
    y = x.astype(np.float64)
    for array in arrays:
        y = y * 0.5 + array.astype(weights["w0"].dtype)
    program = build_program(plan, model, packed, renderer=_render)
    return Chain(program, packed, model, plan, x, y)


def _layer(i: int, width: int, height: int, template: str) -> Layer:
    call = KernelCall(
        template=template,
        params=(),
        args=(
            Arg("object", f"b{i}"),
            Arg("object", f"w{i}"),
            Arg("object", f"b{i + 1}"),
            Arg("int", width),
            Arg("float", 0.5),
        ),
        global_size=(width, height),
        local_size=(1, 1),
    )
    return Layer(
        index=i,
        name=f"layer {i}",
        kind="fma",
        op_class=OperatorClass.ELEMENTAL,
        work=call,
        reads=(f"b{i}",),
        writes=(f"b{i + 1}",),
        weights=(f"w{i}",),
        flops=0,
        bytes_read=0,
        bytes_written=0,
        nodes=(),
    )


def plan_for(
    model: LoweredModel,
    *,
    transport: Transport = Transport.MAP,
    preloaded: Sequence[int] = (),
    ahead: int = 1,
    barrier: bool = False,
) -> Plan:
    """A plan that loads each weight `ahead` layers early, its budget exactly its peak."""
    uses = model.weight_uses()
    kept = [name for at, name in enumerate(uses) if at in preloaded]
    chunk_bytes = 256 * 1024

    def chunks(name: str) -> int:
        return len(model.weights[name].chunks(chunk_bytes))

    streamed = tuple(
        StreamedWeight(
            weight=name,
            load_at=max(0, first - ahead),
            first_use=first,
            last_use=last,
            moves=_moves(first, ahead, chunks(name), transport),
        )
        for name, (first, last) in uses.items()
        if name not in kept
    )
    largest = max(
        (rows * w.row_bytes for w in model.weights.values() for _, rows in w.chunks(chunk_bytes)),
        default=0,
    )
    staging = _SLOTS * largest if transport is not Transport.MAP else 0
    held = [staging + sum(model.weights[name].device_bytes for name in kept)] * len(model.layers)
    spans = {name: model.buffers[name] for name in model.buffers}
    for name, (first, last) in model.lifetimes().items():
        for layer in range(first, last + 1):
            held[layer] += spans[name]
    for item in streamed:
        for layer in range(item.load_at, item.last_use + 1):
            held[layer] += model.weights[item.weight].device_bytes
    peak = max(held)
    return Plan(
        model=model.name,
        fingerprint=model.fingerprint,
        precision=model.precision.value,
        device="ocl:0",
        strategy=Strategy.GREEDY,
        optimize=Objective.COLD,
        budget_bytes=peak,
        min_budget_bytes=peak,
        preload_peak_bytes=peak,
        transport=transport,
        staging_bytes=staging,
        chunk_bytes=chunk_bytes,
        preloaded=tuple(kept),
        barrier=barrier,
        streamed=streamed,
        status=Status.GREEDY,
        tier="",
        objective=0.0,
        bound=0.0,
        gap=0.0,
        solve_ms=0.0,
        first_plan_ms=0.0,
        predicted=Prediction(peak, peak, 0.0, 0.0),
        preload_moves=tuple(
            _moves(0 if barrier else uses[name][0], 0, chunks(name), transport) for name in kept
        )
        if transport is Transport.INLINE
        else (),
    )


def _moves(first: int, ahead: int, chunks: int, transport: Transport) -> tuple[Move, ...]:
    """All `ahead` layers early; with `inline` as many as the ring holds, by the layer before."""
    if transport is not Transport.INLINE:
        return (Move(max(0, first - ahead), chunks),)
    carried = min(_SLOTS, chunks) if first and ahead else 0
    moves = (Move(first - 1, carried), Move(first, chunks - carried, chunks - carried))
    return tuple(move for move in moves if move.chunks)


@dataclass(frozen=True)
class HostModel:
    """A model of host steps alone: rows of a table, then one node; with its table."""

    program: Program
    packed: Packed
    table: np.ndarray


@pytest.fixture
def make_host_model(tmp_path: Path) -> Callable[..., HostModel]:
    """Builds a HostModel: table rows by index, then (given `node`) a node over them."""

    def make(
        *, index: tuple[int, ...], dtype: str = "float32", node: bytes = b"", rows: int = 5000
    ) -> HostModel:
        rng = np.random.default_rng(3)
        table = rng.standard_normal((rows, 24)).astype(dtype)
        shape = (*index, 24)
        # The rows lie in the buffer behind a gap of 8 elements; the output is read transposed.
        fetched = View("rows", "float32", 8, shape, _strides(shape))
        layers = [_host_layer(0, RowFetch("table", "index", fetched), (), ("rows",))]
        last = "rows"
        out = replace(fetched, shape=shape[::-1], strides=fetched.strides[::-1])
        if node:
            result = View("result", "float32", 0, shape, _strides(shape))
            call = HostCall(
                node,
                inputs=(("a", fetched),),
                outputs=(("c", result),),
                weights=(("b", "addend", "float32", (24,)),),
            )
            layers.append(_host_layer(1, call, ("rows",), ("result",)))
            last, out = "result", result
        constants = {
            "t": (dtype, table.shape, table.tobytes()),
            "b": ("float32", (24,), np.arange(24, dtype=np.float32).tobytes()),
        }
        model = LoweredModel(
            name="host",
            fingerprint="beef",
            precision=Precision.FP32,
            layers=tuple(layers),
            buffers={"rows": 4 * (fetched.size + 8), "result": 4 * fetched.size}
            if last == "result"
            else {"rows": 4 * (fetched.size + 8)},
            weights={
                "table": Weight("table", Storage.HOST, dtype, 24, rows, Recipe(None, "t", ())),
                "addend": Weight("addend", Storage.HOST, "float32", 24, 1, Recipe(None, "b", ())),
            },
            constants=constants,
            inputs=(Port("index", "int64", index, None),),
            outputs=(Port("y", "float32", out.shape, out),),
        )
        packed = pack_weights(model, tmp_path)
        program = build_program(plan_for(model), model, packed, renderer=_render)
        return HostModel(program, packed, table)

    return make


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape)))


def _host_layer(
    index: int, work: HostCall | RowFetch, reads: tuple[str, ...], writes: tuple[str, ...]
) -> Layer:
    return Layer(
        index=index,
        name=f"host {index}",
        kind="rows" if isinstance(work, RowFetch) else "host",
        op_class=OperatorClass.ELEMENTAL,
        work=work,
        reads=reads,
        writes=writes,
        weights=(),
        flops=0,
        bytes_read=0,
        bytes_written=0,
        nodes=(),
    )
