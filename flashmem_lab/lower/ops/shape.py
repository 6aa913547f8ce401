"""Operators that only rename elements: views on activations, recipe steps on weights."""

from __future__ import annotations

from math import prod

import numpy as np

from flashmem_lab.graph.model import Node
from flashmem_lab.lower.context import Context, handles, integer, integers
from flashmem_lab.lower.ir import Ref, Value, WeightExpr


def reshaped(ctx: Context, node: Node, value: Value, shape: tuple[int, ...]) -> Value:
    """Any value under another shape; a view is copied where its strides do not allow that."""
    if isinstance(value, Ref):
        return ctx.dense(node, value, shape)
    return value.reshape(shape)


# Inferred shapes say the rest.
@handles("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", narrow=True)
def reshape(ctx: Context, node: Node) -> bool:
    name = node.outputs[0]
    ctx.values[name] = reshaped(ctx, node, ctx.value(node.inputs[0]), ctx.shape(name))
    return True


@handles("Transpose", narrow=True)
def transpose(ctx: Context, node: Node) -> bool:
    value = ctx.value(node.inputs[0])
    axes = integers(node, "perm", range(len(value.shape))[::-1])
    if isinstance(value, np.ndarray):
        ctx.values[node.outputs[0]] = value.transpose(axes)
    else:
        ctx.values[node.outputs[0]] = value.permute(axes)
    return True


def take_range(value: Value, axis: int, start: int, count: int, step: int = 1) -> Value:
    """`count` elements along `axis` of any value."""
    if isinstance(value, np.ndarray):
        return value.take(range(start, start + count * step, step), axis=axis)
    if isinstance(value, WeightExpr) and step < 0:
        return value.take(axis, tuple(range(start, start + count * step, step)))
    return value.slice(axis, start, count, step)


@handles("Slice", narrow=True)
def slice_(ctx: Context, node: Node) -> bool:
    known = [ctx.numbers(n) if n else None for n in (*node.inputs[1:], "", "", "", "")[:4]]
    starts, ends, axes, steps = known
    if starts is None or ends is None:
        return False
    value = ctx.value(node.inputs[0])
    rank = len(value.shape)
    axis_list = [int(a) % rank for a in axes] if axes is not None else list(range(len(starts)))
    step_list = [int(s) for s in steps] if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axis_list, step_list, strict=True):
        picked = range(*slice(int(start), int(end), step).indices(value.shape[axis]))
        value = take_range(value, axis, picked.start if len(picked) else 0, len(picked), step)
    ctx.values[node.outputs[0]] = value
    return True


@handles("Split", narrow=True)
def split(ctx: Context, node: Node) -> bool:
    value = ctx.value(node.inputs[0])
    axis = integer(node, "axis", 0) % len(value.shape)
    extent, parts = value.shape[axis], len(node.outputs)
    equal = -(-extent // parts)  # the last part may be smaller
    counts = integers(node, "split", [min(equal, extent - i * equal) for i in range(parts)])
    if given := ctx.optional(node, 1):
        known = ctx.numbers(given)
        if known is None:
            return False
        counts = tuple(int(count) for count in known)
    start = 0
    for name, count in zip(node.outputs, counts, strict=True):
        if name:
            ctx.values[name] = take_range(value, axis, start, count)
        start += count
    return True


@handles("Expand", narrow=True)
def expand(ctx: Context, node: Node) -> bool:
    shape = ctx.shape(node.outputs[0])
    ctx.values[node.outputs[0]] = ctx.device(node.inputs[0]).broadcast(shape)
    return True


@handles("Tile", narrow=True)
def tile(ctx: Context, node: Node) -> bool:
    ref = ctx.device(node.inputs[0])
    shape = ctx.shape(node.outputs[0])
    repeats = [n // o if o else 1 for n, o in zip(shape, ref.shape, strict=True)]
    apart = ref.reshape(tuple(v for o in ref.shape for v in (1, o)))
    assert apart is not None, "inserting ones never needs a copy"
    spread = apart.broadcast(
        tuple(v for r, o in zip(repeats, ref.shape, strict=True) for v in (r, o))
    )
    ctx.values[node.outputs[0]] = ctx.dense(node, spread, shape)
    return True


@handles("DepthToSpace", narrow=True)
def depth_to_space(ctx: Context, node: Node) -> bool:
    ref = ctx.device(node.inputs[0])
    block = integer(node, "blocksize", 1)
    n, c, h, w = ref.shape
    depth = c // (block * block)
    crd = node.attributes.get("mode", "DCR") == "CRD"
    shape = (n, depth, block, block, h, w) if crd else (n, block, block, depth, h, w)
    axes = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    view = ctx.dense(node, ref, shape).permute(axes)
    ctx.values[node.outputs[0]] = ctx.dense(node, view, ctx.shape(node.outputs[0]))
    return True


@handles("SpaceToDepth", narrow=True)
def space_to_depth(ctx: Context, node: Node) -> bool:
    ref = ctx.device(node.inputs[0])
    block = integer(node, "blocksize", 1)
    n, c, h, w = ref.shape
    view = ctx.dense(node, ref, (n, c, h // block, block, w // block, block))
    crd = node.attributes.get("mode", "DCR") == "CRD"
    view = view.permute((0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4))
    ctx.values[node.outputs[0]] = ctx.dense(node, view, ctx.shape(node.outputs[0]))
    return True


@handles("Concat", narrow=True)
def concat(ctx: Context, node: Node) -> bool:
    out = ctx.output(node)
    axis = integer(node, "axis", 0) % len(out.shape)
    start = 0
    for name in node.inputs:
        count = ctx.shape(name)[axis]
        if prod(ctx.shape(name)):
            ctx.copy(node, ctx.device(name), out.slice(axis, start, count))
        start += count
    return True
