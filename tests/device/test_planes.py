"""Windows over planes, as CPUs and GPUs compute them, where blocks, vectors and padding meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flashmem_lab.lower import LoweredModel, Precision, Storage
from flashmem_lab.lower.layer import KernelCall
from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.pipeline import compare

KINDS = ("cpu", "gpu")
RNG = np.random.default_rng(11)

Window = tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]
"""Shape of the input, extents of the window, attributes."""

DEPTHWISE: dict[str, Window] = {
    "narrower than a vector": ((1, 5, 7, 7), (3, 3), {"pads": [1, 1, 1, 1]}),
    "a pixel more than a vector": ((2, 4, 9, 17), (3, 3), {"pads": [1, 1, 1, 1]}),
    "one column": ((1, 6, 9, 1), (3, 3), {"pads": [1, 1, 1, 1]}),
    "1x1": ((1, 7, 5, 6), (1, 1), {}),
    "odd, stride 2": ((1, 6, 15, 33), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "even, stride 2, pads behind": (
        (1, 9, 14, 30), (3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]},
    ),
    "strides 3 and 2": ((1, 3, 20, 41), (5, 4), {"strides": [3, 2], "pads": [2, 1, 0, 2]}),
    "strides 1 and 3": ((1, 5, 6, 40), (3, 5), {"strides": [1, 3], "pads": [1, 0, 1, 4]}),
    "strides beyond the window": ((1, 4, 16, 21), (2, 2), {"strides": [3, 4]}),
    "dilated": ((1, 5, 19, 23), (3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "dilated, stride 2, one phase and two": (
        (1, 5, 19, 40), (3, 3), {"dilations": [2, 3], "strides": [2, 2], "pads": [2, 3, 2, 3]},
    ),
    "outputs of padding alone": ((1, 4, 3, 2), (3, 3), {"pads": [4, 5, 4, 5]}),
    "several blocks": ((1, 2, 40, 600), (3, 3), {"pads": [1, 1, 1, 1]}),
    "several blocks, stride 2": (
        (1, 2, 70, 1030), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "several planes an item": ((2, 130, 3, 5), (3, 3), {"pads": [1, 1, 1, 1]}),
    "one dimension": ((2, 6, 700), (15,), {"pads": [3, 11]}),
    "81 taps": ((1, 3, 20, 40), (9, 9), {"pads": [4, 4, 4, 4]}),
}  # fmt: skip

BEYOND: dict[str, Window] = {
    "a core's room": (
        (1, 2, 200, 200), (3, 3), {"dilations": [90, 90], "pads": [90, 90, 90, 90]},
    ),
    "the phases that pay": ((1, 5, 27, 31), (5, 5), {"strides": [5, 5]}),
    "one pixel": ((1, 6, 7, 7), (7, 7), {}),
}  # fmt: skip
"""Those that CPUs compute as GPUs do."""


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), ["y"], name=op, **attributes)


def calls(model: LoweredModel) -> list[KernelCall]:
    return [layer.work for layer in model.layers if isinstance(layer.work, KernelCall)]


@pytest.mark.parametrize("case", [*DEPTHWISE, *BEYOND])
@pytest.mark.parametrize("kind", KINDS)
def test_depthwise_convolution(
    case: str, kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    shape, window, attributes = (DEPTHWISE | BEYOND)[case]
    channels = shape[1]
    nodes = [node("Conv", "x w b", group=channels, **attributes)]
    weights = {"w": random(channels, 1, *window), "b": random(channels)}
    model = compare(tmp_path, runtime, nodes, {"x": random(*shape)}, weights, kind=kind)
    by_planes = kind == "cpu" and case in DEPTHWISE
    wanted = "plane_depthwise.cl" if by_planes else "depthwise.cl"
    assert [call.template for call in calls(model)] == [wanted]


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("storage", [Storage.IMAGE2D, Storage.BUFFER])
@pytest.mark.parametrize("kind", KINDS)
def test_depthwise_weights_in_every_form(
    kind: str, storage: Storage, precision: Precision, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    compare(
        tmp_path,
        runtime,
        [node("Conv", "x w", group=10, strides=[1, 2], pads=[2, 2, 2, 2])],
        {"x": random(1, 10, 12, 37)},
        {"w": random(10, 1, 5, 5)},
        kind=kind,
        storage=storage,
        precision=precision,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_depthwise_convolution_is_part_of_it(
    kind: str, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"], ["c"], name="c", group=6, strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Clip", ["c", "least", "most"], ["r"], name="r"),
        node("Add", "r z"),
    ]
    weights = {
        "w": random(6, 1, 3, 3),
        "b": random(6),
        "least": np.array(0, np.float32),
        "most": np.array(1, np.float32),
    }
    inputs = {"x": random(2, 6, 21, 35), "z": random(2, 6, 11, 18)}
    model = compare(tmp_path, runtime, nodes, inputs, weights, kind=kind)
    assert len(model.layers) == 1


CUTS: dict[str, tuple[list[int], list[int], list[int], list[int]]] = {
    "a piece": ([1, 1, 1], [100, 100, 100], [1, 2, 3], [1, 1, 1]),
    "every second column": ([1], [100], [3], [2]),
    "columns in reverse": ([-1], [-100], [3], [-1]),
    "channels in reverse": ([-1], [-100], [1], [-1]),
}
"""Slices of all columns, rows or channels: from, to, axes and steps."""


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("case", [*CUTS, "channels last"])
@pytest.mark.parametrize("kind", KINDS)
def test_depthwise_convolution_of_a_view(
    kind: str, case: str, stride: int, runtime: OpenCLRuntime, tmp_path: Path
) -> None:
    """It is read through its strides: no layer copies it."""
    channels = 7 if case == "a piece" else 8
    weights = {"w": random(channels, 1, 3, 3)}
    if case in CUTS:
        x = random(1, 8, 19, 40)
        cut = dict(zip(("from", "to", "axes", "steps"), map(np.array, CUTS[case]), strict=True))
        weights |= cut
        view = helper.make_node("Slice", ["x", *cut], ["v"], name="view")
    else:
        x = random(1, 19, 40, 8)
        view = helper.make_node("Transpose", ["x"], ["v"], name="view", perm=[0, 3, 1, 2])
    nodes = [view, node("Conv", "v w", group=channels, strides=[stride] * 2, pads=[1] * 4)]
    model = compare(tmp_path, runtime, nodes, {"x": x}, weights, kind=kind)
    assert len(model.layers) == 1


POOLS: dict[str, Window] = {
    "3x3, stride 2": ((2, 5, 9, 37), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "2x2": ((1, 70, 8, 6), (2, 2), {"strides": [2, 2]}),
    "uneven pads": ((1, 3, 8, 20), (3, 4), {"strides": [1, 3], "pads": [0, 2, 2, 1]}),
    "13x13": ((1, 4, 12, 15), (13, 13), {"pads": [6, 6, 6, 6]}),
    "a whole plane": ((1, 6, 9, 11), (9, 11), {}),
    "rounded up": ((1, 3, 10, 12), (3, 3), {"strides": [2, 3], "ceil_mode": 1}),
    "dilated": ((1, 3, 17, 19), (3, 2), {"dilations": [2, 3], "pads": [1, 1, 2, 1]}),
    "several blocks": ((1, 1, 60, 520), (3, 3), {"pads": [1, 1, 1, 1]}),
    "one dimension": ((2, 3, 300), (4,), {"strides": [2], "pads": [1, 2]}),
    "three dimensions": ((1, 2, 5, 6, 20), (2, 3, 3), {"strides": [1, 2, 1], "pads": [1] * 6}),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool with padding"])
@pytest.mark.parametrize("kind", KINDS)
def test_pooling(kind: str, op: str, case: str, runtime: OpenCLRuntime, tmp_path: Path) -> None:
    shape, window, attributes = POOLS[case]
    if op.endswith("padding"):
        attributes = {**attributes, "count_include_pad": 1}
    nodes = [node(op.split()[0], "x", kernel_shape=list(window), **attributes)]
    compare(tmp_path, runtime, nodes, {"x": random(*shape)}, {}, kind=kind)


def test_a_pool_of_integers_is_exact(runtime: OpenCLRuntime, tmp_path: Path) -> None:
    x = RNG.integers(-128, 128, (1, 3, 9, 21)).astype(np.int8)
    nodes = [node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    compare(tmp_path, runtime, nodes, {"x": x}, {}, kind="cpu")
