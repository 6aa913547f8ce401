"""Layout elimination: each way to fold a copy into its neighbours, and what remains in the zoo."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.bench.graphs import lowered_zoo_model
from flashmem_lab.device.spec import WITH_FUNCTION
from flashmem_lab.lower import LoweredModel, Precision
from flashmem_lab.zoo import names
from tests.unit.test_lower import CPU, kinds, lowered, node, random
from tests.windows import WINDOWS, partition, there_and_back

# Skip connections and others: the next layers read what a Concat takes in.
IN_PLACE = "other layers read the piece: in place, the whole would be held from then on"
NESTED = "a Concat of a Concat: the pieces that it joins are written one by one"
ROLL = "ranges of one tensor join in another order (a roll): no stride expresses that"

REMAIN: dict[str, dict[str, int]] = {
    "clip-vit-b32": {"the host reads a dense block": 2},
    "sam2": {
        "rows are chosen at run time": 3,
        "a border has to be written around what is computed": 2,
        IN_PLACE: 2,
        "a weight becomes a piece of a larger tensor": 1,
    },
    "sd-unet": {IN_PLACE: 12},
    "swin-tiny": {ROLL: 32, NESTED: 20},
    "yolo-nano": {IN_PLACE: 25, NESTED: 4},
}
"""Copies that remain in each model of the zoo, by reason; none in those not named."""


def test_windows_are_written_by_what_computes_them(tmp_path: Path) -> None:
    """Partition of a normalised plane, a product of the windows, the inverse, a residual."""
    model = lowered(
        tmp_path,
        there_and_back(),
        {"x": (1, 8, 15, 8)},
        {"y": (1, 8, 15, 8)},
        {"scale": random(8), "m": random(8, 8), **WINDOWS},
    )
    assert kinds(model) == ["normalise", "gemm"]
    assert model.layout.free == model.layout.nodes == 6


def test_windows_of_an_input_are_read_where_they_lie(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [*partition("x", "w"), node("MatMul", "w m", "y")],
        {"x": (1, 8, 15, 8)},
        {"y": (12, 10, 8)},
        {"m": random(8, 8), **WINDOWS},
    )
    assert kinds(model) == ["gemm"]


def test_a_product_does_not_divide_at_each_of_its_steps(tmp_path: Path) -> None:
    """The dimension that is summed is (c, h): to read it in place would cost more than a copy."""
    model = lowered(
        tmp_path,
        [
            node("Transpose", "x", "t", perm=[2, 0, 1]),
            node("Reshape", "t rows", "r"),
            node("MatMul", "r m", "y"),
        ],
        {"x": (4, 6, 5)},
        {"y": (5, 7)},
        {"rows": np.array([5, 24]), "m": random(24, 7)},
    )
    assert kinds(model) == ["gemm"]
    turned = lowered(
        tmp_path,
        [
            node("Transpose", "x", "t", perm=[2, 1, 0]),
            node("Reshape", "t rows", "r"),
            node("MatMul", "r m", "y"),
        ],
        {"x": (4, 6, 5)},
        {"y": (5, 7)},
        {"m": random(24, 7), "rows": np.array([5, 24])},
    )
    assert kinds(turned) == ["map", "gemm"]
    (copy,) = turned.layout.copies
    assert copy.reason == "an input becomes a tensor in another order"
    assert copy.bytes == 4 * 4 * 6 * 5
    assert (turned.layout.nodes, turned.layout.free) == (2, 1)


def test_group_normalisation_scales_channels_within_its_rows(tmp_path: Path) -> None:
    """Exporters write it as an InstanceNormalization of groups: rows of several channels."""
    model = lowered(
        tmp_path,
        [
            node("Reshape", "x groups", "g"),
            node("InstanceNormalization", "g ones zeros", "i"),
            node("Reshape", "i planes", "p"),
            node("Mul", "p scale", "m"),
            node("Add", "m bias", "a"),
            node("Sigmoid", "a", "s"),
            node("Mul", "a s", "y"),
        ],
        {"x": (1, 12, 5, 5)},
        {"y": (1, 12, 5, 5)},
        {
            "groups": np.array([1, 4, -1]),
            "planes": np.array([1, 12, 5, 5]),
            "ones": np.ones(4, np.float32),
            "zeros": np.zeros(4, np.float32),
            "scale": random(12, 1, 1),
            "bias": random(12, 1, 1),
        },
    )
    assert kinds(model) == ["normalise" + WITH_FUNCTION]


def test_a_class_token_is_added_to_its_position_not_copied(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [
            node("MatMul", "x w", "p"),
            node("Concat", "token p", "c", axis=1),
            node("Add", "c positions", "y"),
        ],
        {"x": (1, 9, 16)},
        {"y": (1, 10, 8)},
        {"w": random(16, 8), "token": random(1, 1, 8), "positions": random(1, 10, 8)},
    )
    assert sorted(kinds(model)) == ["gemm", "map"]
    assert model.layout.copies == ()
    assert len(model.buffers) == 2


def test_a_concat_that_is_read_as_a_whole_is_made(tmp_path: Path) -> None:
    """Two readers: the map could take the pieces, the product cannot."""
    model = lowered(
        tmp_path,
        [
            node("Concat", "a b", "c", axis=1),
            node("Relu", "c", "r"),
            node("MatMul", "c w", "p"),
            node("Add", "r p", "y"),
        ],
        {"a": (1, 3, 8), "b": (1, 4, 8)},
        {"y": (1, 7, 8)},
        {"w": random(8, 8)},
    )
    assert Counter(kinds(model)) == {"map": 2, "gemm": 1}
    assert [copy.reason for copy in model.layout.copies] == [
        "an input becomes a piece of a larger tensor"
    ] * 2


def test_halves_that_change_places_are_read_from_where_they_were(tmp_path: Path) -> None:
    """Concat of slices of a Concat (the two halves of a timestep's embedding) needs neither."""
    index = {f"i{k}": np.array([v]) for k, v in (("0", 0), ("4", 4), ("8", 8), ("a", 1))}
    model = lowered(
        tmp_path,
        [
            node("Sin", "x", "s"),
            node("Cos", "x", "c"),
            node("Concat", "s c", "b", axis=1),
            node("Slice", "b i4 i8 ia", "right"),
            node("Slice", "b i0 i4 ia", "left"),
            node("Concat", "right left", "y", axis=1),
        ],
        {"x": (2, 4)},
        {"y": (2, 8)},
        index,
    )
    assert kinds(model) == ["map" + WITH_FUNCTION] * 2
    assert sorted(model.buffers) == ["x", "y"]


def test_a_concat_of_concats_is_written_once(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [
            node("Sin", "x", "s"),
            node("Cos", "x", "c"),
            node("Concat", "s c", "b", axis=1),
            node("Concat", "b x", "d", axis=1),
            node("MatMul", "d w", "y"),
        ],
        {"x": (2, 4)},
        {"y": (2, 5)},
        {"w": random(12, 5)},
    )
    # The inner one is a piece of the outer one: it may be a view of it, but is never skipped.
    written = {name for layer in model.layers for name in layer.writes}
    read = {name for layer in model.layers for name in layer.reads}
    assert read - {"x"} <= written


def test_a_border_of_nothing_is_a_view(tmp_path: Path) -> None:
    model = lowered(
        tmp_path,
        [node("Relu", "x", "r"), node("Pad", "r pads", "p"), node("MatMul", "p w", "y")],
        {"x": (3, 8)},
        {"y": (3, 4)},
        {"pads": np.zeros(4, np.int64), "w": random(8, 4)},
    )
    assert kinds(model) == ["map", "gemm"]


def test_a_scaled_transpose_is_written_by_the_product(tmp_path: Path) -> None:
    """The map keeps its operand's order in memory, so that no tile of the product divides."""
    model = lowered(
        tmp_path,
        [
            node("MatMul", "x w", "p"),
            node("Reshape", "p heads", "h"),
            node("Transpose", "h", "t", perm=[0, 2, 1, 3]),
            node("Mul", "t half", "q"),
            node("MatMul", "q k", "y"),
        ],
        {"x": (1, 7, 32), "k": (1, 4, 8, 7)},
        {"y": (1, 4, 7, 7)},
        {"w": random(32, 32), "heads": np.array([1, 7, 4, 8]), "half": np.float32(0.5)},
    )
    assert kinds(model) == ["gemm", "matmul"]


@pytest.mark.parametrize("name", names())
def test_copies_that_remain_in_the_zoo(name: str) -> None:
    model = lowered_zoo_model(name, CPU, Precision.FP32)
    found = Counter(copy.reason for copy in model.layout.copies)
    assert found == REMAIN.get(name, {})
    assert model.layout.nodes - model.layout.free <= sum(found.values())


def test_a_lowered_model_says_nothing_of_layout_when_nothing_moves(tmp_path: Path) -> None:
    model: LoweredModel = lowered(
        tmp_path, [node("Relu", "x", "y")], {"x": (2, 2)}, {"y": (2, 2)}, {}
    )
    assert (model.layout.nodes, model.layout.free, model.layout.copies) == (0, 0, ())
