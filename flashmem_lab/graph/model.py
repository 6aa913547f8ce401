"""The Graph value: what an ONNX file says, with static shapes and without its weight bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flashmem_lab.shown import mimebundle
from flashmem_lab.units import format_bytes

AttributeValue = (
    int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | np.ndarray
)


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type (a NumPy name: float32, bfloat16, int64, bool, ...) and static shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightRef:
    """Where a weight's bytes lie; never the bytes.

    Attributes:
        file: absolute path of the file that holds them (the .onnx itself for inline data).
        offset: bytes from the start of the file.
        length: bytes; little-endian, row-major.
        dtype: NumPy (ml_dtypes) name of the element type.
        shape: static shape.
    """

    file: Path
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node; empty input names are omitted optional inputs."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model with every shape known.

    Attributes:
        path: the .onnx file.
        name: file stem, for people.
        opset: version of the default domain (after opening: what attribute forms follow).
        nodes: in execution order, constants folded, dead nodes removed.
        types: element type and shape of every value that a node reads or writes.
        constants: small values known at open time (folded shapes, scalars, index tables).
        weights: large values, by reference.
        inputs, outputs: names in the model's order; weights and constants are not inputs.
        fingerprint: hex digest of graph, shapes and weight locations; ties plans to models.
        metadata: the model's own metadata_props (PP-OCR keeps its alphabet there).
    """

    path: Path
    name: str
    opset: int
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]
    weights: Mapping[str, WeightRef]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fingerprint: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        operators = Counter(node.op_type for node in self.nodes).most_common(6)

        def ports(names: tuple[str, ...]) -> str:
            return ", ".join(
                f"{name} {self.types[name].dtype} {list(self.types[name].shape)}" for name in names
            )

        weights = sum(weight.length for weight in self.weights.values())
        return mimebundle(
            f"Graph of {self.name}",
            f"{len(self.nodes)} nodes, {len(self.weights)} weights of {format_bytes(weights)}",
            [
                ("inputs", ports(self.inputs)),
                ("outputs", ports(self.outputs)),
                ("operators", ", ".join(f"{count} {name}" for name, count in operators)),
                ("opset", str(self.opset)),
                ("file", str(self.path)),
            ],
        )
