"""What operator handlers work with: the values so far, and the ways to add an operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from flashmem_lab.errors import ModelError
from flashmem_lab.graph import read_weight
from flashmem_lab.graph.model import AttributeValue, Graph, Node, TensorType
from flashmem_lab.lower.body import Body, identity
from flashmem_lab.lower.ir import Op, Ref, Tensor, Value, WeightExpr
from flashmem_lab.lower.layer import OperatorClass

DEVICE_DTYPES = {
    "float32": "float32",
    "float16": "float32",
    "bfloat16": "float32",
    "float64": "float32",
    "int64": "int64",
    "int32": "int32",
    "int16": "int32",
    "int8": "int32",
    "uint16": "int32",
    "uint8": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "bool": "bool",
}
"""Element type on the device of each ONNX element type that kernels can work with."""

SMALL = 1 << 16  # elements; what lowering may read of a weight (per-channel vectors, index tables)

Handler = Callable[["Context", Node], bool]
"""Lowers one node; returns False, with no output bound, if it must run on the host."""

HANDLERS: dict[str, Handler] = {}

NARROW_SAFE: set[str] = set()
"""Operators whose kernels are right for integers held in a wider type: they move, or wrap."""

NARROW = frozenset({"int8", "int16", "uint8", "uint16", "uint32", "uint64"})
"""Integers that wrap around elsewhere than the type that holds them on the device."""


def handles(*op_types: str, narrow: bool = False) -> Callable[[Handler], Handler]:
    """Registers a handler for operators of the default domain; `narrow` as in NARROW_SAFE."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS[op_type] = handler
        NARROW_SAFE.update(op_types if narrow else ())
        return handler

    return register


class Context:
    """State of one lowering.

    Attributes:
        graph: what is lowered.
        values: what each ONNX value name has become.
        ops: operations in execution order.
        constants: arrays that weight expressions refer to by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Value] = dict(graph.constants)
        self.ops: list[Op] = []
        self.constants: dict[str, np.ndarray] = {}
        self._buffers: dict[tuple[object, ...], Tensor] = {}
        self.buffer_weights: dict[str, tuple[Tensor, WeightExpr]] = {}
        self._names: set[str] = set()
        for name, ref in graph.weights.items():
            self.values[name] = WeightExpr(ref, "", (), ref.shape, ref.dtype, name)
        for name in graph.inputs:
            kind = graph.types[name]
            tensor = Tensor(self.unique(name), self.device_dtype(kind), prod(kind.shape))
            tensor.input = name
            self.values[name] = Ref.whole(tensor, kind.shape)

    # --- reading the node ------------------------------------------------------------------

    def type_of(self, name: str) -> TensorType:
        """ONNX element type and shape of a value."""
        return self.graph.types[name]

    def device_dtype(self, kind: TensorType) -> str:
        """Element type on the device.

        Raises:
            ModelError: the device has none for it.
        """
        try:
            return DEVICE_DTYPES[kind.dtype]
        except KeyError:
            raise ModelError(
                f"element type {kind.dtype} has no place on the device",
                hint="export the model with float, integer or boolean tensors",
            ) from None

    def value(self, name: str) -> Value:
        """What the value has become so far."""
        return self.values[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Inferred shape of a value."""
        return self.graph.types[name].shape

    def numbers(self, name: str) -> np.ndarray | None:
        """The value as an array if it is known and small (folded, or a per-channel weight)."""
        value = self.values.get(name)
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, WeightExpr) or value.steps or value.source is None:
            return None
        return np.array(read_weight(value.source)) if prod(value.shape) <= SMALL else None

    def optional(self, node: Node, index: int) -> str:
        """Name of input `index`, or "" if it is left out."""
        return node.inputs[index] if index < len(node.inputs) else ""

    def optional_output(self, node: Node, index: int) -> str:
        """Name of output `index`, or "" if nothing reads it."""
        return node.outputs[index] if index < len(node.outputs) else ""

    def device(self, name: str) -> Ref:
        """The value as a view of device memory; constants and weights get a buffer."""
        value = self.values[name]
        if isinstance(value, Ref):
            return value
        if isinstance(value, np.ndarray):
            value = self.constant_expr(name, value)
        return self.in_buffer(value)

    def constant_expr(self, name: str, array: np.ndarray) -> WeightExpr:
        """A weight expression on a folded constant."""
        self.constants.setdefault(name, array)
        return WeightExpr(None, name, (), array.shape, array.dtype.name, name)

    def new_constant(self, name: str, array: np.ndarray) -> WeightExpr:
        """A weight expression on an array made while lowering; `name` is made unique."""
        while name in self.constants or name in self.graph.constants:
            name += "'"
        return self.constant_expr(name, array)

    def weight(self, name: str) -> WeightExpr | None:
        """The value as a weight expression, or None if it is computed at run time."""
        value = self.values[name]
        if isinstance(value, np.ndarray):
            return self.constant_expr(name, value)
        return value if isinstance(value, WeightExpr) else None

    def in_buffer(self, expr: WeightExpr) -> Ref:
        """A weight kept in a buffer of its device element type, to be read through strides."""
        kind = TensorType(expr.dtype, expr.shape)
        key = (expr.source, expr.constant, expr.steps)
        tensor = self._buffers.get(key)
        if tensor is None:
            name = self.unique(expr.origin)
            tensor = Tensor(name, self.device_dtype(kind), prod(expr.shape), weight=True)
            self._buffers[key] = tensor
            self.buffer_weights[name] = (tensor, expr.cast(tensor.dtype))
        return Ref.whole(tensor, expr.shape)

    # --- writing the result ----------------------------------------------------------------

    def unique(self, name: str) -> str:
        """`name`, made unique among device objects."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}#{count}"
        self._names.add(candidate)
        return candidate

    def tensor(self, name: str, kind: TensorType) -> Ref:
        """A new dense activation for ONNX value `name`."""
        tensor = Tensor(self.unique(name), self.device_dtype(kind), prod(kind.shape))
        return Ref.whole(tensor, kind.shape)

    def output(self, node: Node, index: int = 0, like: Ref | None = None) -> Ref:
        """A new dense activation for output `index`, bound to its name.

        With `like`, a view of the same shape, its dimensions lie in memory in that one's order.
        """
        name = node.outputs[index]
        ref = self.tensor(name, self.type_of(name))
        if like is not None and like.shape == ref.shape and like.touched == ref.touched:
            order = sorted(range(len(like.shape)), key=lambda axis: -like.strides[axis])
            whole = Ref.whole(ref.tensor, tuple(ref.shape[axis] for axis in order))
            ref = whole.permute(tuple(order.index(axis) for axis in range(len(order))))
        self.values[name] = ref
        return ref

    def add(
        self,
        node: Node,
        kind: str,
        op_class: OperatorClass,
        out: Ref,
        operands: dict[str, Ref],
        *,
        weight: WeightExpr | None = None,
        attrs: dict[str, object] | None = None,
        flops: int = 0,
    ) -> Op:
        """Adds an anchor whose value goes to `out` unchanged (an epilogue may come later)."""
        op = Op(
            kind,
            op_class,
            [node.name],
            out,
            operands,
            identity(out.dtype),
            [],
            weight,
            attrs or {},
            flops,
        )
        self.ops.append(op)
        return op

    def map(self, nodes: Sequence[str], out: Ref, operands: Sequence[Ref], body: Body) -> Op:
        """Adds an element-wise operation; operands broadcast to `out.shape`."""
        op = Op(
            "map",
            OperatorClass.ELEMENTAL,
            list(nodes),
            out,
            {},
            body,
            [ref.broadcast(out.shape) for ref in operands],
            flops=out.size * max(1, len(body.statements)),
        )
        self.ops.append(op)
        return op

    def copy(self, node: Node, source: Ref, out: Ref) -> Op:
        """Adds a copy; fusion removes it where the producer can write to `out` itself."""
        return self.map([node.name], out, [source], identity(source.dtype))

    def dense(self, node: Node, ref: Ref, shape: tuple[int, ...]) -> Ref:
        """`ref` under `shape`, copied first if its strides do not allow that."""
        view = ref.reshape(shape)
        if view is not None:
            return view
        name = f"{ref.tensor.name}.dense"
        target = self.tensor(name, TensorType(ref.dtype, ref.shape))
        self.copy(node, ref, target)
        result = target.reshape(shape)
        assert result is not None, "a dense view takes every shape"
        return result

    def quad(self, node: Node, ref: Ref) -> Ref:
        """`ref` in four dimensions, copied first if it cannot be merged to them."""
        view = ref.quad()
        if view is not None:
            return view
        lead = prod(ref.shape[:-3])
        return self.dense(node, ref, (lead, *ref.shape[-3:]))


def integers(node: Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An INTS attribute."""
    value = node.attributes.get(name)
    return tuple(default) if value is None else tuple(int(v) for v in _sequence(value))


def integer(node: Node, name: str, default: int) -> int:
    """An INT attribute."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int), f"{node.op_type}.{name} is an integer"
    return value


def number(node: Node, name: str, default: float) -> float:
    """A FLOAT attribute."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int | float), f"{node.op_type}.{name} is a number"
    return float(value)


def text(node: Node, name: str, default: str) -> str:
    """A STRING attribute."""
    return str(node.attributes.get(name, default))


def _sequence(value: AttributeValue) -> Sequence[int]:
    assert isinstance(value, tuple), "an INTS attribute is a tuple"
    return value  # type: ignore[return-value]
