"""QuantizeLinear and DequantizeLinear: weights are made real when they are packed.

What lies between the two of a "QDQ" graph is computed in floats, as ONNX defines it. The integers
of a weight never reach the device: its scale is a step of its recipe, so a product or a
convolution finds a weight like any other.
"""

from __future__ import annotations

from math import prod

import numpy as np

from flashmem_lab.graph.model import Node
from flashmem_lab.lower.context import Context, handles, integer
from flashmem_lab.lower.ops.elementwise import FLOAT, Writer

_INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32"})


@handles("DequantizeLinear")
def dequantize(ctx: Context, node: Node) -> bool:
    """(x - zero) * scale; scale and zero are numbers, or vectors along `axis`."""
    if not _supported(ctx, node, ctx.type_of(node.inputs[0]).dtype):
        return False
    source, scale = node.inputs[:2]
    zero = ctx.optional(node, 2)
    weight, factors = ctx.weight(source), ctx.numbers(scale)
    offsets = ctx.numbers(zero) if zero else np.zeros(1, np.int8)
    centred = offsets is not None and not offsets.any()
    if weight is not None and weight.shape and factors is not None and centred:
        vector = ctx.new_constant(f"{scale}.scale", factors.astype(np.float32).reshape(-1))
        axis = integer(node, "axis", 1) if factors.size > 1 else 0
        ctx.values[node.outputs[0]] = weight.cast(FLOAT).scale(axis, vector.constant)
        return True
    w = Writer(ctx)
    value = w.operand(source)
    if zero:
        value = w.emit(w.dtype(value), "{0} - {1}", value, _along(ctx, node, w, zero))
    value = w.emit(FLOAT, "(float){0} * {1}", value, _along(ctx, node, w, scale))
    ctx.map([node.name], ctx.output(node), w.operands, w.body(value))
    return True


@handles("QuantizeLinear", narrow=True)
def quantize(ctx: Context, node: Node) -> bool:
    """The nearest integer to x / scale, ties to even, plus zero; held at the ends of its type."""
    made = ctx.type_of(node.outputs[0])
    real = ctx.device_dtype(ctx.type_of(node.inputs[0])) == FLOAT
    if not real or made.dtype == "int32" or not _supported(ctx, node, made.dtype):
        return False
    w = Writer(ctx)
    value = w.operand(node.inputs[0])
    value = w.emit(FLOAT, "rint({0} / {1})", value, _along(ctx, node, w, node.inputs[1]))
    if zero := ctx.optional(node, 2):
        value = w.emit(FLOAT, "{0} + (float){1}", value, _along(ctx, node, w, zero))
    ends = np.iinfo(made.dtype)
    value = w.emit(FLOAT, f"fmin(fmax({{0}}, {ends.min}.0f), {ends.max}.0f)", value)
    value = w.emit(ctx.device_dtype(made), "(int){0}", value)
    ctx.map([node.name], ctx.output(node), w.operands, w.body(value))
    return True


def _supported(ctx: Context, node: Node, integers: str) -> bool:
    """False for float8 and four bits, and for scales of blocks: the host has those."""
    rank, axis = len(ctx.shape(node.inputs[0])), integer(node, "axis", 1)
    shapes = [ctx.shape(name) for name in node.inputs[1:] if name]
    one_axis = all(prod(shape) == 1 or (len(shape) == 1 and axis < rank) for shape in shapes)
    return integers in _INTEGERS and one_axis and not integer(node, "block_size", 0)


def _along(ctx: Context, node: Node, w: Writer, name: str) -> str:
    """A scale or zero point as an operand: a number, or a vector along `axis`."""
    handle = w.operand(name)
    if handle[0] == "x":
        spread = [1] * len(ctx.shape(node.inputs[0]))
        if (size := prod(ctx.shape(name))) > 1:
            spread[integer(node, "axis", 1)] = size
        view = w.operands[-1].reshape(tuple(spread))
        assert view is not None, "ones around a vector need no copy"
        w.operands[-1] = view
    return handle
