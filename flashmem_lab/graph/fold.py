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

import numpy as np
import onnx

from flashmem_lab.errors import ModelError, UnsupportedOperators
from flashmem_lab.graph.compute import Known
from flashmem_lab.graph.expand import (
    COMPOSED,
    UNROLLED_LIMIT,
    branch_taken,
    function_body,
    is_steady,
    loop_body,
    stacked,
)
from flashmem_lab.graph.inference import NodeTypes, schema_of
from flashmem_lab.graph.model import Node, TensorType, WeightRef
from flashmem_lab.graph.nodes import attribute_values, constant_value, scope_of
from flashmem_lab.graph.order import label, live, ordered, subgraphs
from flashmem_lab.graph.rules import does_nothing, drop_unread, is_inference_dropout
from flashmem_lab.graph.tensors import TensorReader

_SHARE_FROM = 1024  # bytes; smaller constants keep their own names, which people know them by

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
        self._uses: dict[str, int] = {}  # of a name, so that a long loop does not count anew
        self._same: dict[object, str] = {}  # equal constants and weights share one name
        self.types: dict[str, TensorType] = dict(inputs)
        self.constants: dict[str, np.ndarray] = {}
        self.weights: dict[str, WeightRef] = {}
        self.nodes: list[Node] = []
        self._known = Known(opset, self.types, self.constants, self.weights)

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
        branch = branch_taken(node, condition)
        self._inline(node, branch, ChainMap({}, scope), branch.output, scope)

    def _function(
        self,
        node: onnx.NodeProto,
        body: onnx.FunctionProto,
        original: onnx.NodeProto,
        scope: _Scope,
    ) -> None:
        """Replaces a node by the function that defines its operator."""
        inside: _Scope = {k: v for k, v in zip(body.input, node.input, strict=False) if v}
        results = [onnx.ValueInfoProto(name=name) for name in body.output]
        self._inline(original, onnx.GraphProto(node=body.node), inside, results, scope)

    def _inline(
        self,
        node: onnx.NodeProto,
        graph: onnx.GraphProto,
        inside: _Scope,
        results: Sequence[onnx.ValueInfoProto],
        scope: _Scope,
    ) -> None:
        """Walks a graph in the node's place; its results become the node's outputs."""
        wanted = {o: r.name for o, r in zip(node.output, results, strict=False) if o}
        self._graph(graph, inside, wanted.values(), inner=True)
        for outer, result in wanted.items():
            if result not in inside:
                raise ModelError(f"a branch of {label(node)!r} does not define {result!r}")
            scope[outer] = inside[result]

    def _loop(self, node: onnx.NodeProto, scope: _Scope) -> bool:
        """Replaces a Loop of known length by its iterations; False where its length is unknown."""
        body = loop_body(node)
        length, going = (
            self.constants.get(scope[name]) if name else None for name in (*node.input, "", "")[:2]
        )
        given = [name != "" for name in (*node.input, "", "")[:2]]
        if (given[0] and length is None) or (given[1] and going is None):
            return False
        most = UNROLLED_LIMIT // max(1, len(body.node))
        count = most + 1 if length is None else int(length.item())
        steady = is_steady(body)
        state = [scope[name] for name in node.input[2:]]
        first, second, *carried = [value.name for value in body.input]
        gathered: list[list[str]] = [[] for _ in body.output[1 + len(state) :]]
        done = 0
        while done < count and (going is None or going.item()):
            if done == most or (steady and done and count > most):  # it goes on to the last one
                raise ModelError(
                    f"{label(node)!r} (Loop) would become more than {UNROLLED_LIMIT} nodes",
                    hint="export the model with fewer iterations, or without the loop",
                )
            inside: _Scope = ChainMap(dict(zip(carried, state, strict=True)), scope)
            self._define(first, np.array(done, np.int64), inside, inner=True)
            self._define(second, np.array(True), inside, inner=True)
            self._graph(body, inside, [value.name for value in body.output], inner=True)
            going_on, *results = [inside[value.name] for value in body.output]
            going = self.constants.get(going_on)
            if going is None:
                return False
            state, parts = results[: len(state)], results[len(state) :]
            for names, part in zip(gathered, parts, strict=True):
                names.append(part)
            done += 1
        if gathered and not done:
            return False  # nothing says what the empty stacks would hold
        for outer, name in zip(node.output, state, strict=False):
            scope[outer] = name
        for outer, names in zip(node.output[len(state) :], gathered, strict=True):
            if outer:
                inside = ChainMap({name: name for name in names}, scope)
                graph = onnx.GraphProto(node=stacked(node, names, outer, self._opset))
                self._graph(graph, inside, [outer], inner=True)
                scope[outer] = inside[outer]
        return True

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
        known = self._poisoned.isdisjoint(values)
        if node.op_type == "Loop" and known and self._loop(original, scope):
            return
        if schema is None or (condition is None and any(True for _ in subgraphs(node))):
            self._refuse(node, scope, original.output, unless=set(values))
        elif not known:
            self._poison(original.output, scope)
        elif condition is not None:
            self._branch(original, scope, condition)
        elif node.op_type in COMPOSED and (
            body := function_body(node, schema, self.types, self._opset)
        ):
            self._function(node, body, original, scope)
        elif node.op_type == "Constant":
            self._define(node.output[0], constant_value(node, self._reader), scope, inner=inner)
        elif node.op_type == "Identity" or is_inference_dropout(node, self.constants, read):
            if not node.input or not node.input[0]:
                raise ModelError(f"node {label(node)!r} ({node.op_type}) has no input to pass on")
            scope[node.output[0]] = node.input[0]
        else:
            drop_unread(node, schema, read)
            self._name_outputs(node, original, scope, inner=inner)
            self._standard(node, original, scope)

    def _standard(self, node: onnx.NodeProto, original: onnx.NodeProto, scope: _Scope) -> None:
        """A node that is computed now, found to do nothing, or kept."""
        values = list(dict.fromkeys(filter(None, node.input)))
        known = {name: self.constants[name] for name in values if name in self.constants}
        types = self._node_types.infer(node, self.types, known)
        results = self._known.results(node, values, types)
        if results is not None:
            for outer, array in zip(original.output, results, strict=False):
                if outer:
                    self._store(scope[outer], array, scope, outer)
            return
        first = node.output[0]
        if does_nothing(node, self.types, types, known):
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
        unique, count = name, self._uses.get(name, 1)
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        self._uses[name] = count
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


def _some(names: Sequence[str], count: int = 3) -> str:
    """A few names of many."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
