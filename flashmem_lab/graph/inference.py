"""Types and values of single nodes: ONNX's own shape inference and reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from onnx import checker, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.model import TensorType
from flashmem_lab.graph.order import label
from flashmem_lab.graph.tensors import dtype_name, element_type

IR_VERSION = 10  # of the models built here; every opset up to 23 fits, every runtime reads it
_DATA_LIMIT = 8192  # bytes of a constant that shape inference may look at: shapes, axes, scales

# ONNX has no inference function for these, and their bodies do not always show the shape.
_SHAPED_LIKE_INPUT = ("GroupNormalization", "MeanVarianceNormalization")
# Before version 22, inference counts windows that begin in the padding behind the data
# (ceil_mode); runtimes and torch always left them out.
_POOLS, _POOLS_RIGHT = ("AveragePool", "MaxPool"), 22
# Withdrawn at opset 18, as version 21 scales channels, not groups; runtimes still have it.
_STILL_RUN = ("GroupNormalization",)


@cache
def schema_of(op_type: str, opset: int) -> defs.OpSchema | None:
    """The standard operator's schema at an opset; None when there is none or it was withdrawn."""
    try:
        schema = defs.get_schema(op_type, opset, "")
    except defs.SchemaError:
        return None
    return None if schema.deprecated and op_type not in _STILL_RUN else schema


@cache
def type_proto(value: TensorType) -> onnx.TypeProto:
    """A static type as ONNX writes it."""
    return helper.make_tensor_type_proto(element_type(value.dtype), value.shape)


def value_info(name: str, value: TensorType) -> onnx.ValueInfoProto:
    """A graph input or output of a static type."""
    return onnx.ValueInfoProto(name=name, type=type_proto(value))


class NodeTypes:
    """Infers the output types of standard operators at one opset.

    Args:
        opset: version of the default domain.
    """

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._imports = [helper.make_opsetid("", opset)]
        self._context = checker.C.CheckerContext()
        self._context.ir_version = IR_VERSION
        self._context.opset_imports = {"": opset}

    def infer(
        self,
        node: onnx.NodeProto,
        types: Mapping[str, TensorType],
        constants: Mapping[str, np.ndarray],
    ) -> dict[str, TensorType]:
        """Static types of the outputs; one that is missing from the result is not static.

        Args:
            node: a node of the default domain with a schema.
            types: types of the values it reads.
            constants: those of them that are known and small.

        Raises:
            ModelError: the node breaks its operator's contract, or its inputs do not fit together.
        """
        schema = schema_of(node.op_type, self._opset)
        assert schema is not None, "unknown operators are refused before"
        what = f"node {label(node)!r} ({node.op_type})"
        data = {
            name: numpy_helper.from_array(array, name)
            for name, array in constants.items()
            if array.nbytes <= _DATA_LIMIT
        }
        inputs = {name: type_proto(types[name]) for name in node.input if name}
        try:
            if schema.deprecated:  # the checker refuses every one
                _check_arity(node, schema)
            else:
                checker.check_node(node, self._context)
            if schema.has_type_and_shape_inference_function:
                inferred = self._inferred(node, schema, inputs, data)
            elif node.op_type in _SHAPED_LIKE_INPUT:
                inferred = {node.output[0]: inputs[node.input[0]]}
            else:
                inferred = self._through_function(node, types)
        except (checker.ValidationError, shape_inference.InferenceError) as error:
            raise ModelError(
                f"{what} is not valid: {_first_line(error)}",
                hint="check the shapes given with --dim or --input, or export the model again",
            ) from error
        static = {}
        for name, proto in inferred.items():
            if proto.WhichOneof("value") not in ("tensor_type", None):
                raise ModelError(
                    f"{what} makes a {proto.WhichOneof('value')}, not a tensor",
                    hint="sequences, maps and optional values are not supported",
                )
            value = static_type(proto, f"{what}: output {name!r}")
            if value is not None:
                static[name] = value
        return static

    def _inferred(
        self,
        node: onnx.NodeProto,
        schema: defs.OpSchema,
        inputs: dict[str, onnx.TypeProto],
        data: dict[str, onnx.TensorProto],
    ) -> dict[str, onnx.TypeProto]:
        """Types by the operator's own inference function."""
        imports = self._imports
        if node.op_type in _POOLS and self._opset < _POOLS_RIGHT:
            newer = schema_of(node.op_type, _POOLS_RIGHT)
            assert newer is not None, "both pools are still in version 22"
            schema, imports = newer, [helper.make_opsetid("", _POOLS_RIGHT)]
        return shape_inference.infer_node_outputs(
            schema, node, inputs, data, opset_imports=imports, ir_version=IR_VERSION
        )

    def _through_function(
        self, node: onnx.NodeProto, types: Mapping[str, TensorType]
    ) -> dict[str, onnx.TypeProto]:
        """Types of an operator that ONNX defines by a function body only."""
        graph = helper.make_graph(
            [node],
            "node",
            [value_info(name, types[name]) for name in dict.fromkeys(node.input) if name],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=self._imports, ir_version=IR_VERSION)
        inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
        return {value.name: value.type for value in inferred.output}


def _check_arity(node: onnx.NodeProto, schema: defs.OpSchema) -> None:
    """Refuses a node that lacks an input or an output."""
    if len(node.input) != schema.max_input or not all(node.input):
        raise checker.ValidationError(f"it takes {schema.max_input} inputs")
    if len(node.output) != schema.max_output or not all(node.output):
        raise checker.ValidationError(f"it makes {schema.max_output} output(s)")


def static_type(proto: onnx.TypeProto, what: str) -> TensorType | None:
    """A tensor type whose extents are all numbers, else None."""
    tensor = proto.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim):
        return None
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    return TensorType(dtype_name(tensor.elem_type, what), shape)


def declared_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """Static types that the file records for its values."""
    found = {}
    for value in [*graph.value_info, *graph.output]:
        static = static_type(value.type, f"value {value.name!r}")
        if static is not None:
            found[value.name] = static
    return found


def compute(
    node: onnx.NodeProto, opset: int, inputs: Mapping[str, np.ndarray]
) -> Sequence[np.ndarray] | None:
    """The node's outputs by ONNX's reference implementation; None where it has none.

    Args:
        node: a node of the default domain.
        opset: version of the default domain.
        inputs: every value it reads.
    """
    graph = helper.make_graph(
        [node],
        "node",
        [
            value_info(name, TensorType(array.dtype.name, array.shape))
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, dict(inputs))
    except Exception:
        # The reference implementation raises whatever NumPy does. A node that it cannot fold
        # stays in the graph, where the run computes it or says what is wrong.
        return None
    return [np.array(result) for result in results]


def _first_line(error: Exception) -> str:
    """The telling line of ONNX's multi-line messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
