"""Weights, models of nothing but weights, and what was packed of them."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np

from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower.layer import (
    LoweredModel,
    Precision,
    Recipe,
    Step,
    Storage,
    Weight,
)
from flashmem_lab.program import Packed

Constants = dict[str, tuple[str, tuple[int, ...], bytes]]


def stored(array: np.ndarray, file: Path, offset: int = 0) -> WeightRef:
    """Writes `array` at `offset` of `file`."""
    with file.open("r+b" if file.exists() else "w+b") as stream:
        stream.seek(offset)
        stream.write(array.tobytes())
    return WeightRef(file.resolve(), offset, array.nbytes, array.dtype.name, array.shape)


def image(name: str, source: WeightRef, *, dtype: str = "float32", steps: tuple[Step, ...] = ()):
    """A weight of rows of 4-channel texels, as its source already lies."""
    height = source.shape[0]
    width = prod(source.shape[1:]) // 4
    recipe = Recipe(source, "", steps)
    return Weight(name, Storage.IMAGE2D, dtype, width, height, recipe, name)


def model_of(*weights: Weight, constants: Constants | None = None) -> LoweredModel:
    return LoweredModel(
        name="m",
        fingerprint="f",
        precision=Precision.FP32,
        layers=(),
        buffers={},
        weights={weight.name: weight for weight in weights},
        constants=constants or {},
        inputs=(),
        outputs=(),
    )


def bytes_of(packed: Packed, name: str) -> bytes:
    span = packed.spans[name]
    with packed.path.open("rb") as file:
        file.seek(span.offset)
        return file.read(span.bytes)


def two_weights(folder: Path) -> LoweredModel:
    """Two weights of several blocks each, in one file that was written long ago."""
    rng = np.random.default_rng(0)
    file = folder / "model.bin"
    first = stored(rng.standard_normal((1000, 512), np.float32), file)
    second = stored(rng.standard_normal((700, 256), np.float32), file, first.length)
    os.utime(file, ns=(1, 1))
    return model_of(image("a", first), image("b", second))
