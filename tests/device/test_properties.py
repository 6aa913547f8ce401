"""Operators over drawn shapes, against onnxruntime: odd sizes, broadcasting, axes, empty parts.

Extents are small and odd, so that tiles of 4 never fit. Whether a stride is 0, 1 or larger is part
of a kernel's source; the number of examples bounds how many kernels are compiled.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model, save_nodes

examples = settings(
    max_examples=30,
    # compiling a kernel takes as long as it takes
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

extents = st.sampled_from((1, 2, 3, 5, 7, 9))
shapes = st.lists(extents, min_size=1, max_size=5).map(tuple)


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def agree(
    runtime: OpenCLRuntime,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray] | None = None,
) -> None:
    """Runs the nodes both ways; `y` must agree, and nothing may run on the host."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_nodes(Path(folder), nodes, inputs, weights or {})
        wanted = reference_outputs(path, inputs)["y"]
        model, result = run_model(path, inputs, runtime)
    found = result.outputs["y"]
    assert [layer.name for layer in model.layers if layer.kind == "host"] == []
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    scale = max(1e-2, float(np.abs(wanted.astype(np.float64)).max(initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5 * scale)


def node(op: str, inputs: str, output: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{op}:{output}", **attributes)


@examples
@given(shape=shapes, thin=st.lists(st.booleans(), min_size=5, max_size=5), data=st.data())
def test_broadcasting(runtime: OpenCLRuntime, shape, thin, data) -> None:
    """Either operand may lack leading axes, or have any axis of extent 1."""
    lead = data.draw(st.integers(0, len(shape)))
    other = tuple(1 if one else e for e, one in zip(shape, thin, strict=False))[lead:]
    shape = tuple(e if one else 1 for e, one in zip(shape, thin[::-1], strict=False))
    op = data.draw(st.sampled_from(("Add", "Sub", "Mul", "Max", "Less")))
    nodes = [node(op, "b a", "c"), node("Where", "m c a")]
    if op == "Less":
        nodes = [node(op, "b a", "c"), node("Cast", "c", to=1)]
    weights = {} if op == "Less" else {"m": np.asarray(random(other, 2) > 0)}
    agree(runtime, nodes, {"a": random(shape), "b": random(other, 1)}, weights)


@examples
@given(shape=shapes, kind=st.sampled_from(("int64", "int32", "uint8", "int8")), data=st.data())
def test_integers(runtime: OpenCLRuntime, shape, kind, data) -> None:
    """Sums and products wrap around as their own type does; division rounds towards zero."""
    op = data.draw(st.sampled_from(("Add", "Mul", "Sub", "Div", "Max")))
    rng = np.random.default_rng(0)
    low = 1 if kind[0] == "u" else -90
    a, b = (rng.integers(low, 120, shape).astype(kind) for _ in "ab")
    agree(runtime, [node(op, "a b")], {"a": a, "b": np.where(b == 0, 3, b).astype(kind)})


@examples
@given(
    shape=shapes,
    op=st.sampled_from(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp")
    ),
    data=st.data(),
)
def test_reductions(runtime: OpenCLRuntime, shape, op, data) -> None:
    rank = len(shape)
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=1, unique=True))
    axes = [axis - rank if data.draw(st.booleans()) else axis for axis in axes]
    keep = data.draw(st.integers(0, 1))
    agree(
        runtime, [node(op, "x axes", keepdims=keep)], {"x": random(shape)}, {"axes": np.array(axes)}
    )


@examples
@given(shape=shapes, data=st.data())
def test_sums_of_integers_are_exact(runtime: OpenCLRuntime, shape, data) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(0).integers(2**40, 2**50, shape)
    running = data.draw(st.booleans())
    nodes = [node("CumSum", "x axis") if running else node("ReduceSum", "x axes")]
    weights = {"axis": np.array(axis)} if running else {"axes": np.array([axis])}
    agree(runtime, nodes, {"x": x}, weights)


@examples
@given(shape=shapes, data=st.data())
def test_softmax_and_layer_norm(runtime: OpenCLRuntime, shape, data) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    if data.draw(st.booleans()):
        op = data.draw(st.sampled_from(("Softmax", "LogSoftmax")))
        agree(runtime, [node(op, "x", axis=axis)], {"x": random(shape)})
    else:
        weights = {"s": random(shape[axis:], 1), "b": random(shape[axis:], 2)}
        nodes = [node("LayerNormalization", "x s b", axis=axis, epsilon=0.1)]
        agree(runtime, nodes, {"x": random(shape)}, weights)


@examples
@given(
    batch=st.lists(extents, max_size=3).map(tuple), rows=extents, depth=extents, columns=extents,
    data=st.data(),
)  # fmt: skip
def test_matmul(runtime: OpenCLRuntime, batch, rows, depth, columns, data) -> None:
    """Either operand may be a weight or a vector, and batches broadcast."""
    thin = tuple(1 if data.draw(st.booleans()) else e for e in batch)
    a = random((*batch, rows, depth))
    b = random((*thin[data.draw(st.integers(0, len(thin))) :], depth, columns), 1)
    vector = data.draw(st.sampled_from(("", "left", "right")))
    a = a[(0,) * (a.ndim - 1)] if vector == "left" else a
    b = b[(0,) * (b.ndim - 2)][:, 0] if vector == "right" else b
    if data.draw(st.booleans()):
        agree(runtime, [node("MatMul", "a b")], {"a": a}, {"b": b})
    else:
        agree(runtime, [node("MatMul", "a b")], {"a": a, "b": b})


@examples
@given(rows=extents, depth=extents, columns=extents, flags=st.tuples(*[st.booleans()] * 4))
def test_gemm(runtime: OpenCLRuntime, rows, depth, columns, flags) -> None:
    left, right, biased, wide = flags
    inputs = {"a": random((depth, rows) if left else (rows, depth))}
    weights = {"b": random((columns, depth) if right else (depth, columns), 1)}
    weights |= {"c": random((rows, columns) if wide else (columns,), 2)} if biased else {}
    settings_ = {"transA": int(left), "transB": int(right), "alpha": 0.5, "beta": 2.0}
    agree(runtime, [node("Gemm", "a b c" if biased else "a b", **settings_)], inputs, weights)


@examples
@given(shape=shapes, data=st.data())
def test_views(runtime: OpenCLRuntime, shape, data) -> None:
    """Transpose, Slice, Reshape and Concat in a row; a part of the Concat may be empty."""
    rank = len(shape)
    order = data.draw(st.permutations(range(rank)))
    moved = [shape[axis] for axis in order]
    axis = data.draw(st.integers(0, rank - 1))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, moved[axis])] * 2)))
    weights = {
        "start": np.array([start]), "stop": np.array([stop]), "axis": np.array([axis - rank]),
        "flat": np.array([-1]),
    }  # fmt: skip
    nodes = [
        node("Transpose", "x", "t", perm=order),
        node("Slice", "t start stop axis", "s"),
        node("Neg", "s", "n"),
        node("Concat", "n t s", "c", axis=axis),
        node("Reshape", "c flat"),
    ]
    agree(runtime, nodes, {"x": random(shape)}, weights)


@examples
@given(shape=shapes, data=st.data())
def test_split_and_gather(runtime: OpenCLRuntime, shape, data) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    extent = shape[axis]
    first = data.draw(st.integers(0, extent))
    index = data.draw(st.lists(st.integers(-extent, extent - 1), min_size=1, max_size=4))
    weights = {"parts": np.array([first, extent - first])}
    split = helper.make_node("Split", ["x", "parts"], ["p", "q"], axis=axis)
    nodes = [split, node("Concat", "q p", "c", axis=axis), node("Gather", "c i", axis=axis)]
    inputs, array = {"x": random(shape)}, np.array(index)
    if data.draw(st.booleans()):
        agree(runtime, nodes, inputs | {"i": array}, weights)
    else:
        agree(runtime, nodes, inputs, weights | {"i": array})


@examples
@given(shape=shapes, data=st.data())
def test_padding(runtime: OpenCLRuntime, shape, data) -> None:
    mode = data.draw(st.sampled_from(("constant", "reflect", "edge", "wrap")))
    most = [e - 1 if mode == "reflect" else e for e in shape] * 2
    pads = [data.draw(st.integers(0, min(2, top))) for top in most]
    if mode == "constant" and data.draw(st.booleans()) and shape[0] > 1:
        pads[0] = -1
    weights = {"p": np.array(pads), "v": np.array(0.5, np.float32)}
    agree(runtime, [node("Pad", "x p v", mode=mode)], {"x": random(shape)}, weights)


@st.composite
def windows(draw, *, spaces=(1, 2, 3)):
    """(spatial shape, attributes) of a convolution or pool."""
    space = draw(st.sampled_from(spaces))
    extents_ = tuple(draw(st.sampled_from((3, 5, 6, 7))) for _ in range(space))
    kernel = [draw(st.integers(1, 3)) for _ in range(space)]
    return extents_, {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 2)) for _ in range(space)],
        "pads": [draw(st.integers(0, k // 2)) for k in kernel] * 2,
    }


@examples
@given(window=windows(), groups=st.sampled_from((1, 1, 3)), outputs=st.sampled_from((1, 2, 5)))
def test_convolution(runtime: OpenCLRuntime, window, groups, outputs) -> None:
    space, attributes = window
    weights = {"w": random((outputs * groups, 3 // groups, *attributes["kernel_shape"]), 1)}
    weights["b"] = random((outputs * groups,), 2)
    nodes = [node("Conv", "x w b", "c", group=groups, **attributes), node("Relu", "c")]
    agree(runtime, nodes, {"x": random((2, 3, *space))}, weights)


@examples
@given(window=windows(), op=st.sampled_from(("MaxPool", "AveragePool")), data=st.data())
def test_pooling(runtime: OpenCLRuntime, window, op, data) -> None:
    space, attributes = window
    attributes = attributes | {"ceil_mode": data.draw(st.integers(0, 1))}
    if op == "AveragePool":
        attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    agree(runtime, [node(op, "x", **attributes)], {"x": random((2, 3, *space))})


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceProd", "MatMul", "Concat"])
def test_what_is_left_of_nothing(op: str, runtime: OpenCLRuntime) -> None:
    """An empty intermediate: sums over it are the neutral element, as in NumPy."""
    weights = {"two": np.array([2]), "axes": np.array([0]), "one": np.ones(3, np.float32)}
    nodes = [node("Slice", "x two two axes", "e")]
    if op == "MatMul":
        nodes += [node("Transpose", "e", "t"), node(op, "t e", "r"), node("Add", "r one")]
    elif op == "Concat":
        nodes += [node(op, "e x", "r", axis=0), node("Add", "r one")]
    else:
        nodes += [node(op, "e axes", "r"), node("Add", "r one", "s"), node("Max", "s x")]
    agree(runtime, nodes, {"x": random((4, 3))}, weights)
