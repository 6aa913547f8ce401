"""Elements chosen by index: constants become views or small tables, others a kernel's operand."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.context import Context, handles, integer, text
from flashmem_lab.lower.ir import Ref, Value, WeightExpr
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.linear import table_rows
from flashmem_lab.lower.ops.shape import reshaped, take_range

_LONGEST_TABLE = 1 << 20
"""Entries of a scatter's table: 4 MB on the device; beyond that the host is the lesser evil."""


@handles("Gather", narrow=True)
def gather(ctx: Context, node: Node) -> bool:
    value = ctx.value(node.inputs[0])
    axis = integer(node, "axis", 0) % len(value.shape)
    picked = ctx.numbers(node.inputs[1])
    if picked is None or not picked.size:
        if axis == 0 and table_rows(ctx, node):
            return True
        _gathered(ctx, node, ctx.device(node.inputs[0]), ctx.device(node.inputs[1]), axis)
        return True
    rows = _in_range(picked, value.shape[axis])
    return rows is not None and _picked(ctx, node, value, axis, rows)


@handles("GatherND", narrow=True)
def gather_nd(ctx: Context, node: Node) -> bool:
    """With constant indices: a Gather of the dimensions that they name, merged."""
    value, picked = ctx.value(node.inputs[0]), ctx.numbers(node.inputs[1])
    if picked is None or not picked.size or integer(node, "batch_dims", 0):
        return False
    rows = _merged(picked, value.shape)
    if rows is None:
        return False
    depth = picked.shape[-1]
    merged = (prod(value.shape[:depth]), *value.shape[depth:])
    return _picked(ctx, node, reshaped(ctx, node, value, merged), 0, rows)


@handles("ScatterElements", "ScatterND", narrow=True)
def scatter(ctx: Context, node: Node) -> bool:
    """With constant indices: each element comes from the data or from the updates, by a table."""
    shape = ctx.shape(node.outputs[0])
    picked = ctx.numbers(node.inputs[1])
    plain = text(node, "reduction", "none") == "none"
    if picked is None or not picked.size or not plain or prod(shape) > _LONGEST_TABLE:
        return False
    table = np.arange(prod(shape)).reshape(shape)
    source = prod(shape) + np.arange(prod(ctx.shape(node.inputs[2])))
    source = source.reshape(ctx.shape(node.inputs[2]))
    if node.op_type == "ScatterElements":
        axis = integer(node, "axis", 0) % len(shape)
        rows = _in_range(picked, shape[axis])
        if rows is None:
            return False
        places = [*np.indices(picked.shape)]
        places[axis] = rows
        table[tuple(places)] = source
    else:
        rows = _merged(picked, shape)
        if rows is None:
            return False
        depth = picked.shape[-1]
        flat = table.reshape((prod(shape[:depth]), *shape[depth:]))
        flat[rows.ravel()] = source.reshape((rows.size, *shape[depth:]))
    kind = TensorType(ctx.type_of(node.outputs[0]).dtype, (prod(shape) + source.size,))
    both = ctx.tensor(f"{node.outputs[0]}.both", kind)
    for name, start in ((node.inputs[0], 0), (node.inputs[2], prod(shape))):
        part = ctx.device(name)
        target = both.slice(0, start, part.size).reshape(part.shape)
        assert target is not None, "a dense run takes every shape"
        ctx.copy(node, part, target)
    index = ctx.in_buffer(ctx.new_constant(f"{node.name}.from", table.astype(np.int32)))
    _gathered(ctx, node, both, index, 0)
    return True


def _in_range(picked: np.ndarray, extent: int) -> np.ndarray | None:
    """Indices from 0 on; None where one is out of range, which the host says better."""
    inside = ((picked >= -extent) & (picked < extent)).all()
    return picked % extent if inside else None


def _merged(picked: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Index tuples (in the last dimension) as indices of the dimensions that they name, merged."""
    total = np.zeros(picked.shape[:-1], np.int64)
    for axis, column in enumerate(np.moveaxis(picked, -1, 0)):
        rows = _in_range(column, shape[axis])
        if rows is None:
            return None
        total = total * shape[axis] + rows
    return total


def _picked(ctx: Context, node: Node, value: Value, axis: int, rows: np.ndarray) -> bool:
    """Elements `rows` along `axis`: a view where they are evenly spaced."""
    out_shape = ctx.shape(node.outputs[0])
    steps = {int(b - a) for a, b in pairwise(rows.ravel())} or {1}
    if len(steps) == 1 and 0 not in steps:
        found = take_range(value, axis, int(rows.ravel()[0]), rows.size, steps.pop())
        ctx.values[node.outputs[0]] = reshaped(ctx, node, found, out_shape)
    elif isinstance(value, WeightExpr):
        chosen = tuple(int(row) for row in rows.ravel())
        ctx.values[node.outputs[0]] = value.take(axis, chosen).reshape(out_shape)
    elif isinstance(value, np.ndarray):
        ctx.values[node.outputs[0]] = value.take(rows, axis).reshape(out_shape)
    else:
        expr = ctx.new_constant(f"{node.name}.rows", rows.astype(np.int32))
        _gathered(ctx, node, value, ctx.in_buffer(expr), axis)
    return True


def _gathered(ctx: Context, node: Node, data: Ref, index: Ref, axis: int) -> None:
    """The kernel: rows of `data` along `axis`, chosen by indices on the device."""
    outer, extent, inner = prod(data.shape[:axis]), data.shape[axis], prod(data.shape[axis + 1 :])
    source = ctx.dense(node, data, (outer, extent, inner))
    where = ctx.dense(node, index, (index.size,))
    target = ctx.output(node).reshape((1, outer, index.size, inner))
    assert target is not None, "a new tensor is dense"
    ctx.add(
        node,
        "gather",
        OperatorClass.ELEMENTAL,
        target,
        {"x": source, "index": where},
        attrs={"extent": extent},
        flops=target.size,
    )
