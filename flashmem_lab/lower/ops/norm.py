"""Operators that walk whole rows: softmax, normalisations and reductions."""

from __future__ import annotations

from math import prod

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import Body, Statement
from flashmem_lab.lower.context import Context, handles, integer, integers, number
from flashmem_lab.lower.ir import Op, Ref
from flashmem_lab.lower.layer import OperatorClass


def _as_rows(ref: Ref, axes: tuple[int, ...]) -> Ref:
    return ref.permute((*(a for a in range(len(ref.shape)) if a not in axes), *axes))


def _row_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(r0, r1, r2, i): the rows' extents, merged or with leading ones, and a row's elements."""
    outer = (1, 1, 1, *(extent for a, extent in enumerate(shape) if a not in axes))
    return prod(outer[:-2]), outer[-2], outer[-1], prod(shape[a] for a in axes)


def rows(ctx: Context, node: Node, ref: Ref, axes: tuple[int, ...]) -> Ref:
    """`ref` as (r0, r1, r2, i): `axes` gathered in the last dimension, copied if they must be."""
    return ctx.dense(node, _as_rows(ref, axes), _row_shape(ref.shape, axes))


def _row_op(
    ctx: Context,
    node: Node,
    kind: str,
    source: Ref,
    out: Ref,
    axes: tuple[int, ...],
    attrs: dict[str, object],
    flops_per_element: int,
) -> Op | None:
    """A row operation whose output has the input's shape."""
    shaped = _as_rows(out, axes).reshape(_row_shape(source.shape, axes))
    if shaped is None:
        return None
    x = rows(ctx, node, source, axes)
    return ctx.add(
        node,
        kind,
        OperatorClass.HIERARCHICAL,
        shaped,
        {"x": x},
        attrs=attrs,
        flops=flops_per_element * source.size,
    )  # fmt: skip


def _with_copy(
    ctx: Context,
    node: Node,
    kind: str,
    source: Ref,
    out: Ref,
    axes: tuple[int, ...],
    attrs: dict[str, object],
    flops_per_element: int,
) -> None:
    """As `_row_op`, through a scratch tensor in row order where `out` cannot be written in it."""
    if _row_op(ctx, node, kind, source, out, axes, attrs, flops_per_element) is not None:
        return
    order = (*(a for a in range(len(out.shape)) if a not in axes), *axes)
    moved = out.permute(order)
    scratch = ctx.tensor(f"{out.tensor.name}.rows", TensorType("float32", moved.shape))
    last = tuple(range(len(order) - len(axes), len(order)))
    _row_op(ctx, node, kind, source.permute(order), scratch, last, attrs, flops_per_element)
    ctx.copy(node, scratch, moved)


@handles("Softmax", "LogSoftmax")
def softmax(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    rank = len(source.shape)
    if ctx.graph.opset < 13:  # the older form flattens everything from `axis` on
        axis = integer(node, "axis", 1) % rank
        axes = tuple(range(axis, rank))
    else:
        axes = (integer(node, "axis", -1) % rank,)
    attrs: dict[str, object] = {"log": int(node.op_type == "LogSoftmax")}
    _with_copy(ctx, node, "softmax", source, ctx.output(node), axes, attrs, 5)
    return True


def normalised(
    ctx: Context,
    node: Node,
    source: Ref,
    axes: tuple[int, ...],
    epsilon: float,
    scale: Ref | None,
    bias: Ref | None,
    *,
    centred: bool = True,
) -> None:
    """Writes (x - mean) / sqrt(variance + epsilon) * scale + bias, moments over `axes`."""
    out = ctx.output(node)
    attrs: dict[str, object] = {"epsilon": epsilon, "centred": int(centred)}
    if scale is None and bias is None:
        _with_copy(ctx, node, "normalise", source, out, axes, attrs, 8)
        return
    plain = ctx.tensor(f"{node.outputs[0]}.unit", TensorType("float32", out.shape))
    _with_copy(ctx, node, "normalise", source, plain, axes, attrs, 8)
    given = [(code, ref) for code, ref in (("{0} * {1}", scale), ("{0} + {1}", bias)) if ref]
    count = 1 + len(given)
    statements = tuple(
        Statement("float32", code, (count + slot - 1 if slot else 0, slot + 1))
        for slot, (code, _) in enumerate(given)
    )
    operands = [plain, *(ref for _, ref in given)]
    body = Body(("float32",) * count, statements, count + len(given) - 1)
    ctx.map([node.name], out, operands, body)


@handles("LayerNormalization", "RMSNormalization")
def layer_norm(ctx: Context, node: Node) -> bool:
    if len([o for o in node.outputs if o]) > 1:
        return False
    source = ctx.device(node.inputs[0])
    rank = len(source.shape)
    axes = tuple(range(integer(node, "axis", -1) % rank, rank))
    scale = ctx.device(node.inputs[1])
    bias = ctx.optional(node, 2) if node.op_type == "LayerNormalization" else ""
    normalised(
        ctx, node, source, axes, number(node, "epsilon", 1e-5), scale,
        ctx.device(bias) if bias else None, centred=node.op_type == "LayerNormalization",
    )  # fmt: skip
    return True


@handles("InstanceNormalization")
def instance_norm(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    rank = len(source.shape)
    shape = (1, source.shape[1], *(1,) * (rank - 2))
    scale, bias = (ctx.device(n).reshape(shape) for n in node.inputs[1:3])
    assert scale is not None, "a vector takes trailing ones"
    assert bias is not None, "a vector takes trailing ones"
    axes = tuple(range(2, rank))
    normalised(ctx, node, source, axes, number(node, "epsilon", 1e-5), scale, bias)
    return True


@handles("GroupNormalization")
def group_norm(ctx: Context, node: Node) -> bool:
    if ctx.graph.opset < 21:  # scale and bias were per group, and few exporters wrote it
        return False
    source = ctx.device(node.inputs[0])
    batch, channels, *space = source.shape
    groups = integer(node, "num_groups", 1)
    grouped = ctx.dense(node, source, (batch, groups, channels // groups, *space))
    rank = len(grouped.shape)
    plain = ctx.tensor(f"{node.outputs[0]}.unit", TensorType("float32", grouped.shape))
    attrs: dict[str, object] = {"epsilon": number(node, "epsilon", 1e-5), "centred": 1}
    _with_copy(ctx, node, "normalise", grouped, plain, tuple(range(2, rank)), attrs, 8)
    unit = plain.reshape(source.shape)
    shape = (1, channels, *(1,) * len(space))
    scale, bias = (ctx.device(n).reshape(shape) for n in node.inputs[1:3])
    assert unit is not None, "a new tensor takes every shape"
    assert scale is not None, "a vector takes trailing ones"
    assert bias is not None, "a vector takes trailing ones"
    body = Body(("float32",) * 3, (Statement("float32", "{0} * {1} + {2}", (0, 1, 2)),), 3)
    ctx.map([node.name], ctx.output(node), [unit, scale, bias], body)
    return True


# How each reduction starts, takes in one element and ends; `n` is the number of elements.
REDUCTIONS = {
    "ReduceSum": ("0.0f", "acc + v", "acc"),
    "ReduceMean": ("0.0f", "acc + v", "acc / n"),
    "ReduceMax": ("-INFINITY", "isnan(acc) || isnan(v) ? NAN : fmax(acc, v)", "acc"),
    "ReduceMin": ("INFINITY", "isnan(acc) || isnan(v) ? NAN : fmin(acc, v)", "acc"),
    "ReduceProd": ("1.0f", "acc * v", "acc"),
    "ReduceSumSquare": ("0.0f", "acc + v * v", "acc"),
    "ReduceL1": ("0.0f", "acc + fabs(v)", "acc"),
    "ReduceL2": ("0.0f", "acc + v * v", "sqrt(acc)"),
    "ReduceLogSum": ("0.0f", "acc + v", "log(acc)"),
}


@handles(*REDUCTIONS)
def reduce(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    if source.dtype != "float32":
        return False
    rank = len(source.shape)
    axes = integers(node, "axes", ())
    named = ctx.optional(node, 1)
    if named:
        found = ctx.numbers(named)
        if found is None:
            return False
        axes = tuple(int(a) for a in found)
    if not axes:
        if integer(node, "noop_with_empty_axes", 0):
            return False
        axes = tuple(range(rank))
    _reduced(ctx, node, source, tuple(sorted(a % rank for a in axes)), node.op_type)
    return True


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    kind = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    _reduced(ctx, node, source, tuple(range(2, len(source.shape))), kind)
    return True


def _reduced(ctx: Context, node: Node, source: Ref, axes: tuple[int, ...], kind: str) -> None:
    x = rows(ctx, node, source, axes)
    out = ctx.output(node).reshape((*x.shape[:3], 1))
    assert out is not None, "a new tensor is dense"
    start, step, end = REDUCTIONS[kind]
    ctx.add(
        node,
        "reduce",
        OperatorClass.HIERARCHICAL,
        out,
        {"x": x},
        attrs={"start": start, "step": step, "end": end},
        flops=source.size,
    )
