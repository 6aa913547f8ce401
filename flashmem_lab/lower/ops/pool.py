"""Pooling in one to three dimensions, and normalisation over neighbouring channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import Body, Statement, literal
from flashmem_lab.lower.context import Context, handles, integer, integers, number, text
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.conv import padding


@dataclass(frozen=True, slots=True)
class _Window:
    """A window along one axis.

    Attributes:
        kernel, stride, dilation: in elements.
        before, after: padding.
        extent, out: of the axis, before and after pooling.
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    extent: int = 1
    out: int = 1


@handles("MaxPool", "AveragePool", narrow=True)
def pool(ctx: Context, node: Node) -> bool:
    """Planes at once; depth in a second pass, since the maximum and the mean are separable."""
    shape = ctx.shape(node.inputs[0])
    rank = len(shape) - 2
    if rank not in (1, 2, 3) or any(node.outputs[1:]):
        return False
    kind = ctx.type_of(node.outputs[0])
    windows = _windows(node, shape[2:], kind.shape[2:])
    *depth, rows, columns = [_Window()] * (2 - rank) + windows
    lead = (shape[0], prod(shape[1:-2])) if rank > 1 else shape[:2]
    x = ctx.dense(node, ctx.device(node.inputs[0]), (*lead, rows.extent, columns.extent))
    out = _pooled(ctx, node, x, rows, columns)
    if depth:
        planes = rows.out * columns.out
        flat = out.reshape((1, prod(shape[:2]), depth[0].extent, planes))
        assert flat is not None, "a new tensor takes every shape"
        out = _pooled(ctx, node, flat, depth[0], _Window(extent=planes, out=planes))
    result = out.reshape(kind.shape)
    assert result is not None, "a new tensor takes every shape"
    ctx.values[node.outputs[0]] = result
    return True


def _windows(node: Node, old: tuple[int, ...], new: tuple[int, ...]) -> list[_Window]:
    """The node's window along each of its axes."""
    rank = len(old)
    kernel = integers(node, "kernel_shape", ())
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    before = padding(node, kernel, strides, dilations, old, new)
    after = integers(node, "pads", (0,) * 2 * rank)[rank:]
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", ""):
        reach = [
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(new, strides, kernel, dilations, strict=True)
        ]
        after = tuple(max(0, r - e - b) for r, e, b in zip(reach, old, before, strict=True))
    settings = zip(kernel, strides, dilations, before, after, old, new, strict=True)
    return [_Window(*values) for values in settings]


def _pooled(ctx: Context, node: Node, x: Ref, rows: _Window, columns: _Window) -> Ref:
    """Planes (n, c, h, w) pooled once, into a new tensor."""
    out = ctx.tensor(node.outputs[0], TensorType(x.dtype, (*x.shape[:2], rows.out, columns.out)))
    ctx.add(
        node,
        "pool",
        OperatorClass.REUSABLE,
        out,
        {"x": x},
        attrs={
            "kh": rows.kernel, "sh": rows.stride, "dh": rows.dilation,
            "ph": rows.before, "eh": rows.after,
            "kw": columns.kernel, "sw": columns.stride, "dw": columns.dilation,
            "pw": columns.before, "ew": columns.after,
            "maximum": int(node.op_type == "MaxPool"),
            "count_padding": integer(node, "count_include_pad", int(node.op_type == "LRN")),
        },
        # A window may be larger than all there is.
        flops=out.size * min(rows.kernel, rows.extent) * min(columns.kernel, columns.extent),
    )  # fmt: skip
    return out


@handles("LRN")
def local_response(ctx: Context, node: Node) -> bool:
    """Writes x / (bias + alpha * mean of squares over `size` channels) ** beta, zeros past ends."""
    x = ctx.device(node.inputs[0])
    n, channels, *space = x.shape
    size = integer(node, "size", 1)
    squares = ctx.tensor(f"{node.outputs[0]}.squares", TensorType("float32", x.shape))
    ctx.map(
        [node.name], squares, [x], Body(("float32",), (Statement("float32", "{0} * {0}", (0,)),), 1)
    )
    flat = squares.reshape((1, n, channels, prod(space)))
    assert flat is not None, "a new tensor takes every shape"
    window = _Window(size, 1, 1, (size - 1) // 2, size // 2, channels, channels)
    mean = _pooled(ctx, node, flat, window, _Window(extent=prod(space), out=prod(space)))
    view = mean.reshape(x.shape)
    assert view is not None, "a new tensor takes every shape"
    bias, alpha, beta = (
        literal(number(node, name, default), "float32")
        for name, default in (("bias", 1.0), ("alpha", 1e-4), ("beta", 0.75))
    )
    code = f"{{0}} / pow({bias} + {alpha} * {{1}}, {beta})"
    body = Body(("float32", "float32"), (Statement("float32", code, (0, 1)),), 2)
    ctx.map([node.name], ctx.output(node), [x, view], body)
    return True
