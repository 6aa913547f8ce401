"""What is computed when a model is opened: nodes whose inputs are known and small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx

from flashmem_lab.graph.inference import compute
from flashmem_lab.graph.model import TensorType, WeightRef
from flashmem_lab.graph.nodes import attribute
from flashmem_lab.graph.tensors import TABLE_DTYPES, numpy_dtype, read_weight

FOLD_LIMIT = 8 << 20
"""Bytes of a folded tensor, and of the constants it is made from (a causal mask of 1024 tokens)."""
READ_LIMIT = 64 << 10
"""Bytes of a weight that folding may read: per-channel vectors, never matrices."""
TABLE_LIMIT = 1 << 20
"""Bytes that folding may read of a table (masks, relative positions; TABLE_DTYPES)."""
NORM_LIMIT = 64 << 20
"""Bytes that folding may read of a weight for its norms (a convolution over 128 samples of speech,
19 MB): a weight that torch's `weight_norm` divides by them is then one that packing can scale."""

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
# The reference implementation runs these in Python loops: seconds for what takes a run no time.
_SLOW = {"AveragePool", "Conv", "ConvTranspose", "GRU", "GridSample", "LSTM", "MaxPool", "RNN"}
_SLOW |= {"DeformConv", "LpPool", "Resize", "RoiAlign"}
_NORMS = {"ReduceL2", "ReduceSumSquare"}
# Their shape follows from values, but never exceeds what their inputs hold.
_BOUNDED = {"Compress", "NonZero", "Unique"}


class Known:
    """The values known so far, and what follows from them.

    Args:
        opset: version of the default domain.
        types, constants, weights: of a Folder, which goes on filling them.
    """

    def __init__(
        self,
        opset: int,
        types: Mapping[str, TensorType],
        constants: Mapping[str, np.ndarray],
        weights: Mapping[str, WeightRef],
    ) -> None:
        self._opset = opset
        self._types = types
        self._constants = constants
        self._weights = weights

    def results(
        self, node: onnx.NodeProto, values: Sequence[str], types: Mapping[str, TensorType]
    ) -> Sequence[np.ndarray] | None:
        """The outputs of a node whose inputs are all known and small, else None.

        Args:
            node: of the default domain.
            values: names that it reads, each once.
            types: of its outputs, as far as they are static.
        """
        if node.op_type == "Shape":
            shape = self._types[node.input[0]].shape
            start = int(attribute(node, "start", 0))
            end = int(attribute(node, "end", len(shape)))
            return [np.array(shape[start:end], np.int64)]
        if node.op_type == "Size":
            return [np.array(prod(self._types[node.input[0]].shape), np.int64)]
        made = [types.get(name) for name in node.output]
        if all(value is not None and 0 in value.shape for value in made):
            return [np.empty(t.shape, numpy_dtype(t.dtype)) for t in made if t is not None]
        if not values or node.op_type in _RANDOM or node.op_type in _SLOW:
            return None
        if not all(name in self._constants or name in self._weights for name in values):
            return None
        outputs = [name for name in node.output if name]
        static = all(name in types for name in outputs)
        if not static and node.op_type not in _BOUNDED:
            return None
        size = sum(_bytes(types[name]) for name in outputs) if static else 0
        held = sum(self._constants[name].nbytes for name in values if name in self._constants)
        if max(size, held) > FOLD_LIMIT or not self._may_read(node, values, size):
            return None
        inputs = {
            name: self._constants[name]
            if name in self._constants
            else read_weight(self._weights[name])
            for name in values
        }
        results = compute(node, self._opset, inputs)
        if results is None or any(
            name in types and types[name] != TensorType(array.dtype.name, array.shape)
            for name, array in zip(outputs, results, strict=False)
        ):
            return None  # the two sources of truth disagree: leave it to the run
        return results

    def _may_read(self, node: onnx.NodeProto, values: Sequence[str], size: int) -> bool:
        """Whether computing a node now would read few enough bytes of weights."""
        refs = [self._weights[name] for name in values if name in self._weights]
        limits = [_read_limit(ref) for ref in refs]
        if all(ref.length <= limit for ref, limit in zip(refs, limits, strict=True)):
            return True
        if node.op_type in _NORMS and size <= READ_LIMIT:
            return all(ref.length <= NORM_LIMIT for ref in refs)
        window = node.op_type in ("Slice", "Gather") and node.input[0] in self._weights
        return window and len(refs) == 1 and size <= limits[0]  # reads what it cuts out


def _read_limit(ref: WeightRef) -> int:
    """Bytes that folding may read of a weight."""
    return TABLE_LIMIT if ref.dtype in TABLE_DTYPES else READ_LIMIT


def _bytes(value: TensorType) -> int:
    return prod(value.shape) * numpy_dtype(value.dtype).itemsize
