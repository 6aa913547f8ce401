"""The paper's models as real exported graphs, with weights drawn from a seed.

The package holds each graph as torch's exporter wrote it, compressed, and no weights: `make` draws
them at scales that keep activations neither exploding nor vanishing. To add a model, write
data/NAME.toml and run export/export.py; no code changes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from flashmem_lab.zoo import recipe, weights, writer
from flashmem_lab.zoo.recipe import InputSpec, PaperRow, TensorSpec, ZooEntry, entry, names
from flashmem_lab.zoo.writer import Progress

__all__ = [
    "InputSpec",
    "PaperRow",
    "TensorSpec",
    "ZooEntry",
    "entry",
    "make",
    "names",
    "sample_inputs",
]


def make(
    name: str,
    directory: Path | str,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes ``directory/NAME.onnx`` and ``directory/NAME.onnx.data``; see `writer.write`."""
    return writer.write(
        recipe.entry(name), Path(directory), seed=seed, force=force, progress=progress
    )


def sample_inputs(name: str, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs the model can run on, one array per graph input, the same for the same seed."""
    return {
        spec.name: weights.draw(
            spec.draw, seed=seed, name=f"input:{spec.name}", count=math.prod(spec.shape)
        )
        .reshape(spec.shape)
        .astype(spec.dtype)
        for spec in recipe.entry(name).inputs
    }
