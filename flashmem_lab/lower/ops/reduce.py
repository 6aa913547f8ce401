"""Reductions, and sums along an axis: each row of elements becomes one, or its running sums."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import CTYPES, Body, Statement, literal
from flashmem_lab.lower.context import Context, handles, integer, integers
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.layer import OperatorClass


def as_rows(ref: Ref, axes: tuple[int, ...]) -> Ref:
    """`ref` with `axes` last."""
    return ref.permute((*(a for a in range(len(ref.shape)) if a not in axes), *axes))


def row_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(r0, r1, r2, i): the rows' extents, merged or with leading ones, and a row's elements."""
    outer = (1, 1, 1, *(extent for a, extent in enumerate(shape) if a not in axes))
    return prod(outer[:-2]), outer[-2], outer[-1], prod(shape[a] for a in axes)


def rows(ctx: Context, node: Node, ref: Ref, axes: tuple[int, ...]) -> Ref:
    """`ref` as (r0, r1, r2, i): `axes` gathered in the last dimension, copied if they must be."""
    return ctx.dense(node, as_rows(ref, axes), row_shape(ref.shape, axes))


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction in C, on a row of `n` elements `v`.

    Attributes:
        start: of the accumulator `acc`.
        step: `acc` with one more `v`.
        end: the result, from `acc` and `n`.
    """

    start: str
    step: str
    end: str = "acc"


REDUCTIONS = {
    "ReduceSum": Reduction("0.0f", "acc + v"),
    "ReduceMean": Reduction("0.0f", "acc + v", "acc / n"),
    "ReduceMax": Reduction("-INFINITY", "isnan(acc) || isnan(v) ? NAN : fmax(acc, v)"),
    "ReduceMin": Reduction("INFINITY", "isnan(acc) || isnan(v) ? NAN : fmin(acc, v)"),
    "ReduceProd": Reduction("1.0f", "acc * v"),
    "ReduceSumSquare": Reduction("0.0f", "acc + v * v"),
    "ReduceL1": Reduction("0.0f", "acc + fabs(v)"),
    "ReduceL2": Reduction("0.0f", "acc + v * v", "sqrt(acc)"),
    "ReduceLogSum": Reduction("0.0f", "acc + v", "log(acc)"),
}
"""On floats."""

_WHOLE = {
    "ReduceSum": Reduction("0", "acc + v"),
    "ReduceMax": Reduction("{least}", "max(acc, v)"),
    "ReduceMin": Reduction("{most}", "min(acc, v)"),
    "ReduceProd": Reduction("1", "acc * v"),
    "ReduceSumSquare": Reduction("0", "acc + v * v"),
}
"""On integers and booleans, whose sums must be exact."""

_RANGES = {"int64": ("LONG_MIN", "LONG_MAX"), "int32": ("INT_MIN", "INT_MAX"), "bool": ("0", "1")}


@handles(*REDUCTIONS, "ReduceLogSumExp")
def reduce(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    rank = len(source.shape)
    axes = integers(node, "axes", ())
    if named := ctx.optional(node, 1):
        found = ctx.numbers(named)
        if found is None:
            return False
        axes = tuple(int(a) for a in found)
    if not axes and integer(node, "noop_with_empty_axes", 0):
        return False
    axes = tuple(sorted(a % rank for a in axes)) if axes else tuple(range(rank))
    if node.op_type == "ReduceLogSumExp":
        return _log_sum_exp(ctx, node, source, axes)
    how = REDUCTIONS.get(node.op_type)
    if source.dtype != "float32":
        how = _WHOLE.get(node.op_type)
        if how is None:
            return False
        least, most = _RANGES[source.dtype]
        how = Reduction(how.start.format(least=least, most=most), how.step, how.end)
    assert how is not None, "every operator registered has one on floats"
    reduced(ctx, node, source, axes, how, ctx.output(node))
    return True


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    kind = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    axes = tuple(range(2, len(source.shape)))
    reduced(ctx, node, source, axes, REDUCTIONS[kind], ctx.output(node))
    return True


def reduced(
    ctx: Context, node: Node, source: Ref, axes: tuple[int, ...], how: Reduction, out: Ref
) -> None:
    """Writes the reduction of `source` over `axes` to the dense `out`, with or without them."""
    x = rows(ctx, node, source, axes)
    target = out.reshape((*x.shape[:3], 1))
    assert target is not None, "a new tensor is dense"
    ctx.add(
        node,
        "reduce",
        OperatorClass.HIERARCHICAL,
        target,
        {"x": x},
        attrs={
            "start": how.start, "step": how.step, "end": how.end, "value": CTYPES[source.dtype],
        },
        flops=source.size,
    )  # fmt: skip


def _log_sum_exp(ctx: Context, node: Node, source: Ref, axes: tuple[int, ...]) -> bool:
    """Writes max + log(sum(exp(x - max))): without the maximum, large elements would overflow."""
    if source.dtype != "float32":
        return False
    kept = tuple(1 if a in axes else e for a, e in enumerate(source.shape))
    high, total = (
        ctx.tensor(f"{node.outputs[0]}.{part}", TensorType("float32", kept))
        for part in ("max", "sum")
    )
    reduced(ctx, node, source, axes, REDUCTIONS["ReduceMax"], high)
    apart = ctx.tensor(f"{node.outputs[0]}.exp", TensorType("float32", source.shape))
    # Rows that are -inf throughout have no distance to their maximum.
    code = "isinf({1}) ? exp({0}) : exp({0} - {1})"
    exponent = Body(("float32", "float32"), (Statement("float32", code, (0, 1)),), 2)
    ctx.map([node.name], apart, [source, high], exponent)
    reduced(ctx, node, apart, axes, REDUCTIONS["ReduceLogSum"], total)
    out = ctx.output(node)
    target = out.reshape(kept)
    assert target is not None, "a new tensor is dense"
    code = "isinf({1}) ? {0} : {0} + {1}"
    joined = Body(("float32", "float32"), (Statement("float32", code, (0, 1)),), 2)
    ctx.map([node.name], target, [total, high], joined)
    return True


@handles("CumSum")
def cumsum(ctx: Context, node: Node) -> bool:
    """Running sums: one work-item walks a row, since rows are short (positions of tokens)."""
    source = ctx.device(node.inputs[0])
    axis = ctx.numbers(node.inputs[1])
    if axis is None or source.dtype == "bool":
        return False
    last = (int(axis.ravel()[0]) % len(source.shape),)
    out = as_rows(ctx.output(node), last).reshape(row_shape(source.shape, last))
    if out is None:
        return False
    ctx.add(
        node,
        "scan",
        OperatorClass.HIERARCHICAL,
        out,
        {"x": rows(ctx, node, source, last)},
        attrs={
            "value": CTYPES[source.dtype],
            "backwards": integer(node, "reverse", 0),
            "exclusive": integer(node, "exclusive", 0),
        },
        flops=source.size,
    )
    return True


@handles("Trilu", narrow=True)
def triangle(ctx: Context, node: Node) -> bool:
    """The upper or lower triangle: elements under a constant mask, the others 0."""
    offset = ctx.numbers(ctx.optional(node, 1)) if ctx.optional(node, 1) else np.zeros(1, np.int64)
    if offset is None:
        return False
    source = ctx.device(node.inputs[0])
    by = int(offset.ravel()[0])
    ones = np.ones(source.shape[-2:], np.bool_)
    mask = np.triu(ones, by) if integer(node, "upper", 1) else np.tril(ones, by)
    kept = ctx.in_buffer(ctx.new_constant(f"{node.name}.mask", mask))
    dtype = source.dtype
    code = f"{{0}} ? {{1}} : {literal(0, dtype)}"
    body = Body(("bool", dtype), (Statement(dtype, code, (0, 1)),), 2)
    ctx.map([node.name], ctx.output(node), [kept, source], body)
    return True
