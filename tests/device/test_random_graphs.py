"""Random small graphs against onnxruntime: views, broadcasts and fusions in every mixture.

Each seed makes one graph; a failing seed prints it. Extents are 1 to 5, so that broadcasting,
dimensions of extent 1 and tiles that do not fit come up all the time. Operators that jump (Cast to
integers, comparisons) are left out, since a rounding error could flip them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.graph.evaluate import reference_outputs
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import run_model

SEEDS = range(60)
MOST = 3000  # elements of a value
TOLERANCE = 2e-4  # of the largest element; sums of a few hundred products

Shape = tuple[int, ...]
Rule = Callable[["Builder", str, Shape], None]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Registers a way to grow a graph from a value; it may decline by adding nothing."""
    RULES.append(function)
    return function


class Builder:
    """A graph in the making; every value so far has a known shape."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {}
        for _ in range(self.below(3) + 1):
            array = self.random(tuple(int(v) for v in self.rng.choice((1, 1, 2, 3, 4, 5), 4)))
            name = f"x{len(self.inputs)}"
            self.inputs[name], self.shapes[name] = array, array.shape
        wanted = 3 + self.below(9)
        while len(self.nodes) < wanted:
            names = list(self.shapes)
            recent = self.rng.random() < 0.7  # long chains fuse; short ones share operands
            name = names[-1] if recent else names[self.below(len(names))]
            RULES[self.below(len(RULES))](self, name, self.shapes[name])

    def below(self, bound: int) -> int:
        return int(self.rng.integers(bound))

    def random(self, shape: Shape) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def integers(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def add(self, op: str, inputs: list[str], *shapes: Shape, **attributes: Any) -> None:
        if max(prod(shape) for shape in shapes) > MOST:
            return
        names = [f"v{len(self.shapes) + at}" for at in range(len(shapes))]
        self.nodes.append(
            helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        )
        self.shapes.update(zip(names, shapes, strict=True))

    def partner(self, shape: Shape) -> tuple[str, Shape]:
        """A value that broadcasts with `shape`: an earlier one, or a weight with some ones."""
        fits = [n for n, s in self.shapes.items() if _broadcast(s, shape) is not None]
        if self.rng.random() < 0.6:
            name = fits[self.below(len(fits))]
            return name, self.shapes[name]
        thin = tuple(e if self.rng.random() < 0.6 else 1 for e in shape)[self.below(3) :]
        return self.weight(self.random(thin)), thin

    def model(self) -> onnx.ModelProto:
        """The graph; what nothing reads is an output, and at times a value that is read."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output]
        outputs = [name for name in made if name not in read]
        if self.rng.random() < 0.4:
            outputs.append(made[self.below(len(made))])
        graph = helper.make_graph(
            self.nodes,
            "random",
            [_value(name, array.shape) for name, array in self.inputs.items()],
            [_value(name, self.shapes[name]) for name in dict.fromkeys(outputs)],
            [numpy_helper.from_array(w, n) for n, w in self.weights.items() if n in read],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _value(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _broadcast(left: Shape, right: Shape) -> Shape | None:
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        return None


def _with(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


# --- element-wise ----------------------------------------------------------------------------


@rule
def unary(b: Builder, x: str, shape: Shape) -> None:
    b.add(("Relu", "Tanh", "Neg", "Sigmoid")[b.below(4)], [x], shape)


@rule
def binary(b: Builder, x: str, shape: Shape) -> None:
    y, other = b.partner(shape)
    out = _broadcast(shape, other)
    assert out is not None
    b.add(("Add", "Mul", "Sub", "Max")[b.below(4)], [x, y] if b.below(2) else [y, x], out)


@rule
def where(b: Builder, x: str, shape: Shape) -> None:
    y, other = b.partner(shape)
    out = _broadcast(shape, other)
    assert out is not None
    b.add("Where", [b.weight(b.random(shape[b.below(2) :]) > 0), x, y], out)


# --- views -----------------------------------------------------------------------------------


@rule
def transpose(b: Builder, x: str, shape: Shape) -> None:
    order = [int(a) for a in b.rng.permutation(len(shape))]
    if order:
        b.add("Transpose", [x], tuple(shape[a] for a in order), perm=order)


@rule
def reshape(b: Builder, x: str, shape: Shape) -> None:
    left, extents = prod(shape), list[int]()
    for _ in range(b.below(4)):
        divisors = [d for d in range(1, left + 1) if left % d == 0]
        extents.append(divisors[b.below(len(divisors))])
        left //= extents[-1]
    extents.insert(b.below(len(extents) + 1), left)
    b.add("Reshape", [x, b.integers(*extents)], tuple(extents))


@rule
def slice_(b: Builder, x: str, shape: Shape) -> None:
    if not shape:
        return
    axis, step = b.below(len(shape)), (1, 1, 2, -1, -2)[b.below(5)]
    start, end = (0, shape[axis]) if step > 0 else (-1, -shape[axis] - 1)
    start += b.below(2) * (1 if step > 0 else -1)
    count = len(range(shape[axis])[start:end:step])
    if count:
        bounds = [b.integers(v) for v in (start, end, axis, step)]
        b.add("Slice", [x, *bounds], _with(shape, axis, count))


@rule
def split(b: Builder, x: str, shape: Shape) -> None:
    axis = b.below(max(1, len(shape)))
    if shape and shape[axis] > 1:
        first = 1 + b.below(shape[axis] - 1)
        parts = (first, shape[axis] - first)
        b.add("Split", [x, b.integers(*parts)], *(_with(shape, axis, p) for p in parts), axis=axis)


@rule
def expand(b: Builder, x: str, shape: Shape) -> None:
    out = (*(2,) * b.below(2), *(1 + b.below(3) if e == 1 else e for e in shape))
    b.add("Expand", [x, b.integers(*out)], out)


@rule
def unsqueeze(b: Builder, x: str, shape: Shape) -> None:
    axis = b.below(len(shape) + 1)
    b.add("Unsqueeze", [x, b.integers(axis)], (*shape[:axis], 1, *shape[axis:]))


@rule
def concat(b: Builder, x: str, shape: Shape) -> None:
    if not shape:
        return
    axis = b.below(len(shape))
    alike = [
        n
        for n, s in b.shapes.items()
        if len(s) == len(shape) and _with(s, axis, 0) == _with(shape, axis, 0)
    ]
    other = alike[b.below(len(alike))]
    parts = {x: shape[axis]} | {other: b.shapes[other][axis]}
    names = [x, other, b.weight(b.random(_with(shape, axis, 2)))][: 2 + b.below(2)]
    total = sum(parts.get(name, 2) for name in names)
    b.add("Concat", names[:: -1 if b.below(2) else 1], _with(shape, axis, total), axis=axis)


@rule
def gather(b: Builder, x: str, shape: Shape) -> None:
    if shape:
        axis = b.below(len(shape))
        index = b.rng.integers(-shape[axis], shape[axis], (1, 3)[b.below(2) :])
        b.add(
            "Gather",
            [x, b.weight(index)],
            (*shape[:axis], *index.shape, *shape[axis + 1 :]),
            axis=axis,
        )


@rule
def pad(b: Builder, x: str, shape: Shape) -> None:
    pads = [b.below(3) for _ in range(2 * len(shape))]
    out = tuple(e + pads[a] + pads[a + len(shape)] for a, e in enumerate(shape))
    if shape:
        b.add("Pad", [x, b.integers(*pads)], out, mode=("constant", "edge")[b.below(2)])


# --- anchors ---------------------------------------------------------------------------------


@rule
def product_with_weight(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) < 2:
        return
    n = (1, 2, 5, 7)[b.below(4)]
    if b.below(3):
        b.add("MatMul", [x, b.weight(b.random((shape[-1], n)))], (*shape[:-1], n))
    else:
        w = b.weight(b.random((n, shape[-2])))
        b.add("MatMul", [w, x], (*shape[:-2], n, shape[-1]))


@rule
def product(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) < 2:
        return
    for y, other in b.shapes.items():
        batch = _broadcast(shape[:-2], other[:-2]) if len(other) >= 2 else None
        if batch is not None and other[-2] == shape[-1]:
            b.add("MatMul", [x, y], (*batch, shape[-2], other[-1]))
            return


@rule
def conv(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) not in (3, 4):
        return
    space = len(shape) - 2
    groups = (1, 1, shape[1])[b.below(3)]
    channels = groups if groups > 1 else (1, 3, 4, 6)[b.below(4)]
    kernel = tuple(1 + b.below(min(3, e)) for e in shape[2:])
    pads, strides = [b.below(2) for _ in range(2 * space)], [1 + b.below(2) for _ in range(space)]
    out = tuple(
        (shape[2 + a] + pads[a] + pads[a + space] - kernel[a]) // strides[a] + 1
        for a in range(space)
    )
    names = [x, b.weight(b.random((channels, shape[1] // groups, *kernel)))]
    names += [b.weight(b.random((channels,)))] * b.below(2)
    b.add("Conv", names, (shape[0], channels, *out), pads=pads, strides=strides, group=groups)


@rule
def batch_norm(b: Builder, x: str, shape: Shape) -> None:
    """Mostly right after a convolution, or after a view of one: what folding must tell apart."""
    if b.below(4):
        conv(b, x, shape)
        if b.below(2):
            (transpose, split, reshape)[b.below(3)](b, *_last(b))
        x, shape = _last(b)
    if len(shape) >= 2:
        vectors = [b.weight(b.random(shape[1:2])) for _ in range(3)]
        variance = b.weight(np.abs(b.random(shape[1:2])) + 0.5)
        b.add("BatchNormalization", [x, *vectors, variance], shape)


def _last(b: Builder) -> tuple[str, Shape]:
    return list(b.shapes.items())[-1]


@rule
def softmax(b: Builder, x: str, shape: Shape) -> None:
    if shape:
        b.add("Softmax", [x], shape, axis=b.below(len(shape)))


@rule
def reduce_mean(b: Builder, x: str, shape: Shape) -> None:
    if shape:
        count, keep = 1 + b.below(len(shape)), b.below(2)
        axes = sorted(int(a) for a in b.rng.choice(len(shape), count, replace=False))
        out = tuple(1 if a in axes else e for a, e in enumerate(shape) if keep or a not in axes)
        b.add("ReduceMean", [x, b.integers(*axes)], out, keepdims=keep)


@rule
def layer_norm(b: Builder, x: str, shape: Shape) -> None:
    if shape:
        axis = b.below(len(shape))
        vectors = [b.weight(b.random(shape[axis:])) for _ in range(2)]
        # A row of almost equal elements would make rounding errors large; epsilon bounds that.
        b.add("LayerNormalization", [x, *vectors], shape, axis=axis, epsilon=0.1)


@rule
def on_the_host(b: Builder, x: str, shape: Shape) -> None:
    if shape and b.below(2):
        index = b.weight(b.rng.integers(0, shape[0], shape))
        b.add("GatherElements", [x, index], shape)


# --- the test --------------------------------------------------------------------------------


def _devices(spec: DeviceSpec) -> dict[str, DeviceSpec]:
    """The device as it is, and as one that wants groups and has small images."""
    small = replace(spec.limits, image_width=8, image_height=16)
    return {"": spec, "grouped, tiled": replace(spec, kind="gpu", work_group=8, limits=small)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_graph(seed: int, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    builder = Builder(seed)
    proto = builder.model()
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    wanted = reference_outputs(path, builder.inputs)
    kind = ("", "grouped, tiled")[seed % 4 == 0]
    device = _devices(runtime.spec)[kind]
    found = run_model(path, builder.inputs, runtime, device=device)[1].outputs
    for name, array in wanted.items():
        scale = max(1e-2, float(np.abs(array).max()))
        np.testing.assert_allclose(
            found[name], array, rtol=0, atol=TOLERANCE * scale,
            err_msg=f"{name} {kind}\n{onnx.printer.to_text(proto)}",
        )  # fmt: skip
