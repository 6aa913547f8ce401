"""Softmax and normalisations: operators that walk whole rows and keep the shape."""

from __future__ import annotations

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import Body, Statement, literal
from flashmem_lab.lower.context import Context, handles, integer, number
from flashmem_lab.lower.ir import Op, Ref
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.reduce import REDUCTIONS, Reduction, as_rows, reduced, row_shape, rows


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
    shaped = as_rows(out, axes).reshape(row_shape(source.shape, axes))
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
    source = ctx.device(node.inputs[0])
    rank = len(source.shape)
    axes = tuple(range(integer(node, "axis", -1) % rank, rank))
    scale = ctx.device(node.inputs[1])
    bias = ctx.optional(node, 2) if node.op_type == "LayerNormalization" else ""
    normalised(
        ctx, node, source, axes, number(node, "epsilon", 1e-5), scale,
        ctx.device(bias) if bias else None, centred=node.op_type == "LayerNormalization",
    )  # fmt: skip
    if any(node.outputs[1:]):
        _moments(ctx, node, source, axes)
    return True


def _moments(ctx: Context, node: Node, source: Ref, axes: tuple[int, ...]) -> None:
    """The mean and 1 / standard deviation that LayerNormalization can give besides."""
    kind = TensorType("float32", tuple(1 if a in axes else e for a, e in enumerate(source.shape)))
    mean, inverse = (
        ctx.output(node, at)
        if ctx.optional_output(node, at)
        else ctx.tensor(f"{node.name}.{at}", kind)
        for at in (1, 2)
    )
    reduced(ctx, node, source, axes, REDUCTIONS["ReduceMean"], mean)
    apart = ctx.tensor(f"{node.name}.centred", TensorType("float32", source.shape))
    body = Body(("float32", "float32"), (Statement("float32", "{0} - {1}", (0, 1)),), 2)
    ctx.map([node.name], apart, [source, mean], body)
    epsilon = literal(number(node, "epsilon", 1e-5), "float32")
    step = Reduction("0.0f", "acc + v * v", f"1.0f / sqrt(acc / n + {epsilon})")
    reduced(ctx, node, apart, axes, step, inverse)


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
    source = ctx.device(node.inputs[0])
    batch, channels, *space = source.shape
    groups = integer(node, "num_groups", 1)
    grouped = ctx.dense(node, source, (batch, groups, channels // groups, *space))
    rank = len(grouped.shape)
    plain = ctx.tensor(f"{node.outputs[0]}.unit", TensorType("float32", grouped.shape))
    attrs: dict[str, object] = {"epsilon": number(node, "epsilon", 1e-5), "centred": 1}
    _with_copy(ctx, node, "normalise", grouped, plain, tuple(range(2, rank)), attrs, 8)
    # Before opset 21, scale and bias are one number a group, not a channel.
    shape, parts = source.shape, channels
    if ctx.graph.opset < 21:
        shape, parts = grouped.shape, groups
    vectors = [
        ctx.device(n).reshape((1, parts, *(1,) * (len(shape) - 2))) for n in node.inputs[1:3]
    ]
    operands = [ref for ref in (plain.reshape(shape), *vectors) if ref is not None]
    assert len(operands) == 3, "a new tensor and vectors take every shape"
    target = ctx.output(node).reshape(shape)
    assert target is not None, "a new tensor takes every shape"
    body = Body(("float32",) * 3, (Statement("float32", "{0} * {1} + {2}", (0, 1, 2)),), 3)
    ctx.map([node.name], target, operands, body)
    return True
