"""Matrix products, and rows of a table chosen by a graph input."""

from __future__ import annotations

from math import prod

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import Body, Statement, literal
from flashmem_lab.lower.context import Context, handles, integer, number
from flashmem_lab.lower.ir import Ref, WeightExpr
from flashmem_lab.lower.layer import OperatorClass


@handles("MatMul")
def matmul(ctx: Context, node: Node) -> bool:
    if not real_product(ctx, node):
        return False
    left, right = (_operand(ctx, name) for name in node.inputs)
    shape = ctx.shape(node.outputs[0])
    # A vector is a row on the left and a column on the right; the result has no such axis.
    if len(right.shape) == 1:
        right, shape = _shaped(ctx, node, right, (*right.shape, 1)), (*shape, 1)
    if len(left.shape) == 1:
        left, shape = _shaped(ctx, node, left, (1, *left.shape)), (*shape[:-1], 1, shape[-1])
    out = ctx.output(node).reshape(shape)
    assert out is not None, "a new tensor takes every shape"
    _product(ctx, node, left, right, out)
    return True


def _shaped(
    ctx: Context, node: Node, value: Ref | WeightExpr, shape: tuple[int, ...]
) -> Ref | WeightExpr:
    return value.reshape(shape) if isinstance(value, WeightExpr) else ctx.dense(node, value, shape)


@handles("Gemm")
def gemm(ctx: Context, node: Node) -> bool:
    if not real_product(ctx, node):
        return False
    left, right = (_operand(ctx, name) for name in node.inputs[:2])
    if integer(node, "transA", 0):
        left = left.permute((1, 0))
    if integer(node, "transB", 0):
        right = right.permute((1, 0))
    kind = ctx.type_of(node.outputs[0])
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    added = ctx.optional(node, 2)
    plain = alpha == 1.0 and (not added or beta == 0.0)
    product = ctx.output(node) if plain else ctx.tensor(f"{node.outputs[0]}.product", kind)
    _product(ctx, node, left, right, product)
    if not plain:
        scaled = Statement("float32", f"{literal(alpha, 'float32')} * {{0}}", (0,))
        operands = [product]
        body = Body(("float32",), (scaled,), 1)
        if added and beta != 0.0:
            operands.append(ctx.device(added))
            total = Statement("float32", f"{{0}} + {literal(beta, 'float32')} * {{1}}", (2, 1))
            scaled = Statement(scaled.dtype, scaled.code, (0,))
            body = Body(("float32", "float32"), (scaled, total), 3)
        ctx.map([node.name], ctx.output(node), operands, body)
    return True


def real_product(ctx: Context, node: Node) -> bool:
    """True for a product of floats with something to sum.

    Sums of integers must be exact, sums of nothing are zeros: both go to the host.
    """
    empty = any(0 in ctx.shape(name) for name in node.inputs)
    return ctx.device_dtype(ctx.type_of(node.outputs[0])) == "float32" and not empty


def _operand(ctx: Context, name: str) -> Ref | WeightExpr:
    return ctx.weight(name) or ctx.device(name)


def _product(
    ctx: Context, node: Node, left: Ref | WeightExpr, right: Ref | WeightExpr, out: Ref
) -> None:
    """Writes left @ right, with whichever side is a two-dimensional weight as a texture."""
    if isinstance(right, WeightExpr) and len(right.shape) == 2:
        with_weight(ctx, node, _on_device(ctx, left), right, out)
    elif isinstance(left, WeightExpr) and len(left.shape) == 2 and isinstance(right, Ref):
        # (W @ x) = (x^T @ W^T)^T, and a transpose is only strides.
        with_weight(ctx, node, _swapped(right), left.permute((1, 0)), _swapped(out))
    else:
        between_activations(ctx, node, _on_device(ctx, left), _on_device(ctx, right), out)


def _on_device(ctx: Context, value: Ref | WeightExpr) -> Ref:
    return value if isinstance(value, Ref) else ctx.in_buffer(value)


def _swapped(ref: Ref) -> Ref:
    rank = len(ref.shape)
    return ref.permute((*range(rank - 2), rank - 1, rank - 2))


def batched(ctx: Context, node: Node, ref: Ref, batch: tuple[int, ...]) -> Ref:
    """(..., m, n) as (b0, b1, m, n) with the batch dimensions broadcast, copied if it must be."""
    rows, columns = ref.shape[-2:]
    spread = ref.broadcast((*batch, rows, columns))
    if len(batch) <= 2:
        view = spread.reshape((1,) * (2 - len(batch)) + (*batch, rows, columns))
        assert view is not None, "leading ones never need a copy"
        return view
    return ctx.dense(node, spread, (prod(batch[:-1]), batch[-1], rows, columns))


def with_weight(ctx: Context, node: Node, a: Ref, weight: WeightExpr, out: Ref) -> None:
    """Writes out[..., m, n] = sum_k a[..., m, k] weight[k, n]; the weight becomes a texture."""
    k, n = weight.shape
    rows = prod(a.shape[:-1])
    flat, target = a.reshape((1, 1, rows, k)), out.reshape((1, 1, rows, n))
    if flat is None or target is None:
        batch = a.shape[:-2]
        flat, target = batched(ctx, node, a, batch), batched(ctx, node, out, batch)
    ctx.add(
        node,
        "gemm",
        OperatorClass.REUSABLE,
        target,
        {"a": flat},
        weight=weight,
        flops=2 * rows * k * n,
    )


def between_activations(ctx: Context, node: Node, a: Ref, b: Ref, out: Ref) -> None:
    """Writes out[..., m, n] = sum_k a[..., m, k] b[..., k, n], both in buffers."""
    batch = out.shape[:-2]
    ctx.add(
        node,
        "matmul",
        OperatorClass.REUSABLE,
        batched(ctx, node, out, batch),
        {"a": batched(ctx, node, a, batch), "b": batched(ctx, node, b, batch)},
        flops=2 * out.size * a.shape[-1],
    )


def table_rows(ctx: Context, node: Node) -> bool:
    """Gather of weight rows by an untouched graph input: the host reads only these rows."""
    table, index = ctx.value(node.inputs[0]), ctx.value(node.inputs[1])
    if not isinstance(table, WeightExpr) or not isinstance(index, Ref):
        return False
    floating = ctx.device_dtype(TensorType(table.dtype, ())) == "float32"
    if not index.tensor.input or index.size != index.tensor.size or not index.dense:
        return False  # RowFetch reads the whole input, in its order
    if not floating:
        return False
    flat = table.reshape((table.shape[0], prod(table.shape[1:])))
    ctx.add(
        node,
        "rows",
        OperatorClass.ELEMENTAL,
        ctx.output(node),
        {},
        weight=flat,
        attrs={"index": index.tensor.input},
    )
    return True
