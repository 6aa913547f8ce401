"""One pass over an ONNX graph with static input shapes: types inferred, constants folded.

Because every input shape is known, one walk in execution order settles everything: each node's
types follow from its inputs', and a node whose inputs are all known and small is computed at once.
(onnxscript's folder was tried first: it takes several passes, costs 0.4 s more to import, and
reads weights to fold transposes of them.)
"""

from __future__ import annotations

import hashlib
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from math import prod

import numpy as np
import onnx
from onnx import defs

from flashmem_lab.errors import ModelError, UnsupportedOperators
from flashmem_lab.graph.inference import NodeTypes, compute, schema_of, static_type
from flashmem_lab.graph.model import Node, TensorType, WeightRef
from flashmem_lab.graph.nodes import attribute, attribute_values, scope_of
from flashmem_lab.graph.order import label, live, ordered, subgraphs
from flashmem_lab.graph.tensors import TABLE_DTYPES, TensorReader, numpy_dtype, read_weight

FOLD_LIMIT = 8 << 20
"""Bytes of a folded tensor, and of the constants it is made from (a causal mask of 1024 tokens)."""
READ_LIMIT = 64 << 10
"""Bytes of a weight that folding may read: per-channel vectors, never matrices."""
TABLE_LIMIT = 1 << 20
"""Bytes that folding may read of a table (masks, relative positions; TABLE_DTYPES)."""

_SHARE_FROM = 1024  # bytes; smaller constants keep their own names, which people know them by

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
# Their shape follows from values, but never exceeds what their inputs hold.
_BOUNDED = {"Compress", "NonZero", "Unique"}
# They do nothing when the output has the input's type.
_RESHAPES = {"Cast", "Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}

_Scope = MutableMapping[str, str]  # name in the file -> name in the result


class Folder:
    """Walks a graph once; afterwards the fields hold the result.

    Args:
        opset: version of the default domain.
        reader: finds tensors.
        inputs: static types of the graph inputs.
        declared: static types that the file itself records, for operators without inference.
    """

    def __init__(
        self,
        opset: int,
        reader: TensorReader,
        inputs: Mapping[str, TensorType],
        declared: Mapping[str, TensorType],
    ) -> None:
        self._opset = opset
        self._reader = reader
        self._declared = declared
        self._node_types = NodeTypes(opset)
        self._unknown: dict[str, list[str]] = {}
        self._poisoned: set[str] = set()  # values that an unknown operator stands before
        self._taken: set[str] = set()
        self._same: dict[object, str] = {}  # equal constants and weights share one name
        self.types: dict[str, TensorType] = dict(inputs)
        self.constants: dict[str, np.ndarray] = {}
        self.weights: dict[str, WeightRef] = {}
        self.nodes: list[Node] = []

    def run(self, graph: onnx.GraphProto) -> dict[str, str]:
        """Folds the main graph.

        Returns:
            For each graph output, the value that holds it.

        Raises:
            UnsupportedOperators: listing every operator that nothing can run.
            ModelError: invalid nodes, or a shape that depends on data.
        """
        self._taken = {name for node in graph.node for name in node.output}
        self._taken.update(self.types, (tensor.name for tensor in graph.initializer))
        scope: _Scope = {name: name for name in self.types}
        outputs = [value.name for value in graph.output]
        self._graph(graph, scope, outputs, inner=False)
        if self._unknown:
            raise UnsupportedOperators(
                [f"{name} ({_some(users)})" for name, users in sorted(self._unknown.items())]
            )
        missing = [name for name in outputs if name not in scope]
        if missing:
            raise ModelError(f"nothing defines the graph output(s) {', '.join(missing)}")
        return {name: scope[name] for name in outputs}

    # --- graphs and branches ---------------------------------------------------------------

    def _graph(
        self, graph: onnx.GraphProto, scope: _Scope, outputs: Iterable[str], *, inner: bool
    ) -> None:
        if graph.sparse_initializer:
            raise ModelError(
                "the model has sparse initializers", hint="export it with dense weights"
            )
        initializers = [tensor.name for tensor in graph.initializer]
        twice = sorted(name for name, count in Counter(initializers).items() if count > 1)
        if twice:
            raise ModelError(f"weight(s) defined twice: {_some(twice)}")
        nodes = ordered(graph.node, [*scope, *initializers])
        kept, read = live(nodes, outputs)
        for tensor in graph.initializer:
            value = self._reader.read(tensor, tensor.name)
            self._define(tensor.name, value, scope, inner=inner)
        for node in kept:
            self._node(node, scope, read, inner=inner)

    def _branch(self, node: onnx.NodeProto, scope: _Scope, condition: np.ndarray) -> None:
        """Replaces an If whose condition is known by the branch taken."""
        wanted = "then_branch" if condition.item() else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == wanted)
        inside: _Scope = ChainMap({}, scope)
        results = [value.name for value in branch.output]
        self._graph(branch, inside, results, inner=True)
        for outer, result in zip(node.output, results, strict=True):
            if result not in inside:
                raise ModelError(f"a branch of {label(node)!r} does not define {result!r}")
            scope[outer] = inside[result]

    # --- one node --------------------------------------------------------------------------

    def _node(
        self, original: onnx.NodeProto, scope: _Scope, read: set[str], *, inner: bool
    ) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.domain = "" if node.domain == "ai.onnx" else node.domain
        schema = None if node.domain else schema_of(node.op_type, self._opset)
        for i, name in enumerate(node.input):
            node.input[i] = scope[name] if name else ""
        values = [name for name in node.input if name]
        condition = self.constants.get(node.input[0]) if node.op_type == "If" and values else None
        if schema is None or (condition is None and any(True for _ in subgraphs(node))):
            self._refuse(node, scope, original.output, unless=set(values))
        elif not self._poisoned.isdisjoint(values):
            self._poison(original.output, scope)
        elif condition is not None:
            self._branch(original, scope, condition)
        elif node.op_type == "Constant":
            self._define(node.output[0], self._constant(node), scope, inner=inner)
        elif node.op_type == "Identity" or _is_inference_dropout(node, self.constants, read):
            if not node.input or not node.input[0]:
                raise ModelError(f"node {label(node)!r} ({node.op_type}) has no input to pass on")
            scope[node.output[0]] = node.input[0]
        else:
            _drop_unread(node, schema, read)
            self._name_outputs(node, original, scope, inner=inner)
            self._standard(node, original, scope)

    def _standard(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: _Scope) -> None:
        """A node that is computed now, found to do nothing, or kept."""
        values = list(dict.fromkeys(filter(None, node.input)))
        known = {name: self.constants[name] for name in values if name in self.constants}
        types = self._node_types.infer(node, self.types, known)
        results = self._computed(node, values, types)
        if results is not None:
            for outer, array in zip(original.output, results, strict=False):
                if outer:
                    self._store(scope[outer], array, scope, outer)
            return
        first = node.output[0]
        if _does_nothing(node, self.types, types, known):
            scope[original.output[0]] = node.input[0]
            return
        for outer, name in zip(original.output, node.output, strict=False):
            value = types.get(name) or self._declared.get(outer)
            if name and value is None:
                raise ModelError(
                    f"the shape of {name!r}, made by node {label(node)!r} ({node.op_type}), "
                    "depends on data",
                    hint="only graphs whose shapes follow from the input shapes can be planned",
                )
            if name and value is not None:
                self.types[name] = value
        self.nodes.append(
            Node(
                name=node.name or f"{node.op_type}:{first}",
                op_type=node.op_type,
                domain="",
                inputs=tuple(node.input),
                outputs=tuple(node.output),
                attributes=attribute_values(node, self._reader),
                scope=scope_of(node),
            )
        )

    def _computed(
        self, node: onnx.NodeProto, values: Sequence[str], types: Mapping[str, TensorType]
    ) -> Sequence[np.ndarray] | None:
        """The outputs of a node whose inputs are all known and small, else None."""
        if node.op_type == "Shape":
            shape = self.types[node.input[0]].shape
            start = int(attribute(node, "start", 0))
            end = int(attribute(node, "end", len(shape)))
            return [np.array(shape[start:end], np.int64)]
        if node.op_type == "Size":
            return [np.array(prod(self.types[node.input[0]].shape), np.int64)]
        if not values or node.op_type in _RANDOM or node.op_type in _SLOW:
            return None
        if not all(name in self.constants or name in self.weights for name in values):
            return None
        outputs = [name for name in node.output if name]
        static = all(name in types for name in outputs)
        if not static and node.op_type not in _BOUNDED:
            return None
        size = sum(_bytes(types[name]) for name in outputs) if static else 0
        held = sum(self.constants[name].nbytes for name in values if name in self.constants)
        if max(size, held) > FOLD_LIMIT or not self._may_read(node, values, size):
            return None
        inputs = {
            name: self.constants[name]
            if name in self.constants
            else read_weight(self.weights[name])
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
        refs = [self.weights[name] for name in values if name in self.weights]
        limits = [_read_limit(ref) for ref in refs]
        if all(ref.length <= limit for ref, limit in zip(refs, limits, strict=True)):
            return True
        window = node.op_type in ("Slice", "Gather") and node.input[0] in self.weights
        return window and len(refs) == 1 and size <= limits[0]  # reads what it cuts out

    # --- values ----------------------------------------------------------------------------

    def _define(
        self, name: str, value: np.ndarray | WeightRef, scope: _Scope, *, inner: bool
    ) -> None:
        """Enters an initializer or a Constant."""
        unique = self._unique(name) if inner else name
        if isinstance(value, WeightRef):
            unique = self._same.setdefault(value, unique)
            self.weights[unique] = value
            self.types[unique] = TensorType(value.dtype, value.shape)
            scope[name] = unique
        else:
            self._store(unique, value, scope, name)

    def _store(self, unique: str, array: np.ndarray, scope: _Scope, name: str) -> None:
        """Enters a constant; large equal ones (the mask of every layer) are kept once."""
        if array.nbytes > _SHARE_FROM:
            digest = hashlib.sha256(array.tobytes()).digest()
            unique = self._same.setdefault((array.dtype.name, array.shape, digest), unique)
        self.constants[unique] = array
        self.types[unique] = TensorType(array.dtype.name, array.shape)
        scope[name] = unique

    def _constant(self, node: onnx.NodeProto) -> np.ndarray | WeightRef:
        """The value of a Constant node."""
        for item in node.attribute:
            if item.name == "value":
                return self._reader.read(item.t, node.output[0])
            if item.name in ("value_float", "value_floats"):
                floats = item.f if item.name == "value_float" else list(item.floats)
                return np.array(floats, np.float32)
            if item.name in ("value_int", "value_ints"):
                return np.array(item.i if item.name == "value_int" else list(item.ints), np.int64)
        raise ModelError(
            f"constant {label(node)!r} holds strings, a sparse tensor or nothing",
            hint="only dense numbers are supported",
        )

    def _name_outputs(
        self, node: onnx.NodeProto, original: onnx.NodeProto, scope: _Scope, *, inner: bool
    ) -> None:
        for i, name in enumerate(node.output):
            if name:
                node.output[i] = scope[name] = self._unique(name) if inner else name
        for name in original.output[len(node.output) :]:
            scope.pop(name, None)

    def _unique(self, name: str) -> str:
        """A name that no other graph uses: branches may reuse each other's names."""
        unique, count = name, 1
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        return unique

    def _refuse(
        self, node: onnx.NodeProto, scope: _Scope, outputs: Iterable[str], *, unless: set[str]
    ) -> None:
        """Remembers an operator that nothing can run, and goes on to find the others."""
        known = not node.domain and schema_of(node.op_type, self._opset) is not None
        # Control flow behind an unknown operator may well fold once that one is gone.
        if not known or self._poisoned.isdisjoint(unless):
            name = f"{node.domain or 'ai.onnx'}::{node.op_type}"
            self._unknown.setdefault(name, []).append(label(node))
        self._poison(outputs, scope)

    def _poison(self, outputs: Iterable[str], scope: _Scope) -> None:
        for name in filter(None, outputs):
            scope[name] = name
            self._poisoned.add(name)


def declared_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """Static types that the file records for its values."""
    found = {}
    for value in [*graph.value_info, *graph.output]:
        static = static_type(value.type, f"value {value.name!r}")
        if static is not None:
            found[value.name] = static
    return found


def _drop_unread(node: onnx.NodeProto, schema: defs.OpSchema, read: set[str]) -> None:
    """Removes optional outputs at the end that nothing reads (masks, indices, statistics)."""
    optional = defs.OpSchema.FormalParameterOption.Optional
    while len(node.output) > 1 and node.output[-1] not in read:
        position = len(node.output) - 1
        if position >= len(schema.outputs) or schema.outputs[position].option != optional:
            return
        del node.output[-1]


def _is_inference_dropout(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray], read: set[str]
) -> bool:
    """Whether a node is a Dropout that passes its input on."""
    if node.op_type != "Dropout" or any(name in read for name in node.output[1:]):
        return False
    training = node.input[2] if len(node.input) > 2 else ""
    return not training or (training in constants and not constants[training].item())


def _does_nothing(
    node: onnx.NodeProto,
    inputs: Mapping[str, TensorType],
    outputs: Mapping[str, TensorType],
    constants: Mapping[str, np.ndarray],
) -> bool:
    """Whether the node's only output equals its first input."""
    if len(node.output) != 1 or outputs.get(node.output[0]) != inputs.get(node.input[0]):
        return False
    if node.op_type == "Concat":
        return len(node.input) == 1
    if node.op_type == "Slice":  # the whole, unless it runs backwards
        steps = node.input[4] if len(node.input) > 4 else ""
        return not steps or (steps in constants and bool((constants[steps] > 0).all()))
    return node.op_type in _RESHAPES


def _read_limit(ref: WeightRef) -> int:
    """Bytes that folding may read of a weight."""
    return TABLE_LIMIT if ref.dtype in TABLE_DTYPES else READ_LIMIT


def _bytes(value: TensorType) -> int:
    return prod(value.shape) * numpy_dtype(value.dtype).itemsize


def _some(names: Sequence[str], count: int = 3) -> str:
    """A few names of many."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
