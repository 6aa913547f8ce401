"""Convolutions in one to three dimensions, and batch normalisation folded into them."""

from __future__ import annotations

from math import prod

import numpy as np

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import Body, Statement
from flashmem_lab.lower.context import Context, handles, integer, integers, number, text
from flashmem_lab.lower.ir import Op, Ref, WeightExpr
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.pad import padded

ADD = Body(("float32", "float32"), (Statement("float32", "{0} + {1}", (0, 1)),), 2)
SCALE_SHIFT = Body(
    ("float32", "float32", "float32"), (Statement("float32", "{0} * {1} + {2}", (0, 1, 2)),), 3
)


def padding(
    node: Node,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    extent: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[int, ...]:
    """Padding before each spatial dimension; what comes after follows from the output's shape."""
    rank = len(kernel)
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return integers(node, "pads", (0,) * 2 * rank)[:rank]
    if mode == "VALID":
        return (0,) * rank
    before = []
    for i in range(rank):
        total = max(0, (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - extent[i])
        before.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return tuple(before)


def two_d(values: tuple[int, ...], fill: int) -> tuple[int, int]:
    """Spatial settings of a 1-D operator as those of a 2-D one with height 1."""
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def planes(ctx: Context, node: Node, ref: Ref) -> Ref:
    """(n, c, w) as (n, c, 1, w); (n, c, h, w) as it is."""
    return ref if len(ref.shape) == 4 else ctx.dense(node, ref, (*ref.shape[:2], 1, ref.shape[2]))


@handles("Conv", "ConvTranspose")
def conv(ctx: Context, node: Node) -> bool:
    transposed = node.op_type == "ConvTranspose"
    weight = ctx.weight(node.inputs[1])
    shape = ctx.shape(node.inputs[0])
    rank = len(shape) - 2
    if weight is None or rank not in (1, 2, 3):
        return False
    kernel = weight.shape[2:]
    groups = integer(node, "group", 1)
    _refuse_misfit(ctx, node, weight.shape, shape, groups)
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    window = (kernel, strides, dilations)
    out_shape = ctx.shape(node.outputs[0])
    find = _transposed_padding if transposed else padding
    before = find(node, *window, shape[2:], out_shape[2:])
    x = ctx.device(node.inputs[0])
    if rank == 3:
        taps, step, apart, lead = kernel[0], strides[0], dilations[0], before[0]
        outer, inner = weight.shape[:2]
        if transposed:  # the convolution of the spread input by the mirrored window
            x, step, lead = _spread(ctx, node, x, step), 1, (taps - 1) * apart - lead
            mirrored = weight.permute((0, 2, 1, 3, 4)).take(1, tuple(range(taps))[::-1])
            weight = mirrored.reshape((outer * taps, inner, *kernel[1:]))
        else:
            weight = weight.reshape((outer, inner * taps, *kernel[1:]))
        x = _depth_in_channels(ctx, node, x, out_shape[2], taps, step, apart, lead)
        kernel, strides, dilations, before = (v[1:] for v in (*window, before))
    elif rank == 1:
        x = planes(ctx, node, x)
        weight = weight.reshape((*weight.shape[:2], 1, *kernel))
    (kh, kw), (sh, sw), (dh, dw) = two_d(kernel, 1), two_d(strides, 1), two_d(dilations, 1)
    ph, pw = two_d(before, 0)
    channels = out_shape[1]
    flat = _without_depth(out_shape)
    depthwise = not transposed and rank < 3 and groups == shape[1] == channels
    per_group = weight.shape[1]
    macs = (prod(x.shape) if transposed else prod(flat)) * kh * kw * per_group
    bias = ctx.optional(node, 2)
    suffix = ".conv" if bias else ""
    out = ctx.tensor(node.outputs[0] + suffix, TensorType("float32", flat))
    ctx.add(
        node,
        "depthwise" if depthwise else "deconv" if transposed else "conv",
        OperatorClass.REUSABLE,
        out,
        {"x": x},
        weight=weight,
        attrs={
            "kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw, "ph": ph, "pw": pw,
            "groups": groups,
        },
        flops=2 * macs,
    )  # fmt: skip
    if bias:
        plain, out = out, ctx.tensor(node.outputs[0], TensorType("float32", flat))
        ctx.map([node.name], out, [plain, _per_channel(ctx, bias, 2)], ADD)
    ctx.values[node.outputs[0]] = _with_depth(out, out_shape)
    return True


def _spread(ctx: Context, node: Node, x: Ref, step: int) -> Ref:
    """(n, c, d, h, w) with step - 1 empty depths between two."""
    if step == 1:
        return x
    n, c, depth, h, w = x.shape
    kind = TensorType("float32", (n, c, (depth - 1) * step + 1, h, w))
    wide = ctx.tensor(f"{node.outputs[0]}.spread", kind)
    ctx.map([node.name], wide, [], Body((), (Statement("float32", "0.0f", ()),), 0))
    ctx.copy(node, x, wide.slice(2, 0, depth, step))
    return wide


def _depth_in_channels(
    ctx: Context, node: Node, x: Ref, out: int, taps: int, step: int, apart: int, before: int
) -> Ref:
    """(n, c, d, h, w) as (n * out, c * taps, h, w): the depths under each output depth's window.

    `taps`, `step`, `apart` and `before` are the window's extent, stride, dilation and padding.
    A convolution over depth is then one of planes with more channels. Overlapping windows cost a
    copy that is taps / step times the input.
    """
    reach = (out - 1) * step + (taps - 1) * apart + 1
    if before < 0:
        x, before = x.slice(2, -before, x.shape[2] + before), 0
    x = padded(ctx, node, x, {2: (before, max(0, reach - before - x.shape[2]))})
    n, c, _, h, w = x.shape
    by_n, by_c, by_d, by_h, by_w = x.strides
    strides = (by_n, step * by_d, by_c, apart * by_d, by_h, by_w)
    windows = Ref(x.tensor, x.offset, (n, out, c, taps, h, w), strides)
    return ctx.dense(node, windows, (n * out, c * taps, h, w))


def _without_depth(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output's shape as planes: (n, c, 1, w), (n, c, h, w) or (n * d, c, h, w)."""
    if len(shape) == 5:
        return (shape[0] * shape[2], shape[1], *shape[3:])
    return shape if len(shape) == 4 else (*shape[:2], 1, shape[2])


def _with_depth(out: Ref, shape: tuple[int, ...]) -> Ref:
    """The inverse of `_without_depth`, on the tensor itself."""
    if len(shape) == 5:
        apart = out.reshape((shape[0], shape[2], shape[1], *shape[3:]))
        assert apart is not None, "a new tensor takes every shape"
        return apart.permute((0, 2, 1, 3, 4))
    view = out.reshape(shape)
    assert view is not None, "a new tensor takes every shape"
    return view


def _refuse_misfit(
    ctx: Context, node: Node, weight: tuple[int, ...], x: tuple[int, ...], groups: int
) -> None:
    """ONNX's shape inference does not hold a convolution's weight against its input.

    Raises:
        ModelError: they do not fit; a kernel would read what is not there.
    """
    per_group, transposed = weight[1], node.op_type == "ConvTranspose"
    channels = ctx.shape(node.outputs[0])[1]
    fits = (
        groups >= 1
        and (weight[0] if transposed else per_group * groups) == x[1]
        and (weight[0] % groups == 0)
        and (per_group * groups if transposed else weight[0]) == channels
        and integers(node, "kernel_shape", weight[2:]) == weight[2:]
    )
    bias = ctx.optional(node, 2)
    if not fits or (bias and ctx.shape(bias) != (channels,)):
        raise ModelError(
            f"node {node.name!r} ({node.op_type}): weight {list(weight)} with {groups} group(s) "
            f"does not fit input {list(x)} and {channels} output channels",
            hint="export the model again; its weights belong to another graph",
        )


def _transposed_padding(
    node: Node,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    extent: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[int, ...]:
    rank = len(kernel)
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "") and "output_shape" not in node.attributes:
        return integers(node, "pads", (0,) * 2 * rank)[:rank]
    if mode == "VALID":
        return (0,) * rank
    extra = integers(node, "output_padding", (0,) * rank)
    before = []
    for i in range(rank):
        full = strides[i] * (extent[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = max(0, full - out[i])
        before.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return tuple(before)


def _per_channel(ctx: Context, name: str, rank: int) -> Ref:
    ref = ctx.device(name)
    view = ref.reshape((1, ref.size, *(1,) * rank))
    assert view is not None, "a vector takes trailing ones"
    return view


@handles("BatchNormalization")
def batch_norm(ctx: Context, node: Node) -> bool:
    if len([o for o in node.outputs if o]) > 1 or integer(node, "training_mode", 0):
        return False
    vectors = [ctx.numbers(n) for n in node.inputs[1:5]]
    if any(v is None for v in vectors):
        return False
    gamma, beta, mean, var = (np.asarray(v, dtype=np.float64) for v in vectors)
    factor = gamma / np.sqrt(var + number(node, "epsilon", 1e-5))
    shift = beta - mean * factor
    source = ctx.device(node.inputs[0])
    rank = len(source.shape) - 2

    def vector(suffix: str, values: np.ndarray) -> WeightExpr:
        return ctx.new_constant(f"{node.name}.{suffix}", values.astype(np.float32))

    def per_channel(expr: WeightExpr) -> Ref:
        ref = ctx.in_buffer(expr).reshape((1, *expr.shape, *(1,) * rank))
        assert ref is not None, "a vector takes trailing ones"
        return ref

    offset = per_channel(vector("shift", shift))
    producer = _conv_behind(ctx, node.inputs[0], source)
    if producer is not None and producer.weight is not None:
        axis = 1 if producer.kind == "deconv" else 0
        producer.weight = producer.weight.scale(axis, vector("scale", factor).constant)
        producer.nodes.append(node.name)
        ctx.map([node.name], ctx.output(node), [source, offset], ADD)
    else:
        operands = [source, per_channel(vector("scale", factor)), offset]
        ctx.map([node.name], ctx.output(node), operands, SCALE_SHIFT)
    return True


def _conv_behind(ctx: Context, name: str, source: Ref) -> Op | None:
    """The bias-free convolution whose output `name` is read by this node alone, if there is one.

    The name must be the convolution's own: a view of its output has other axes and other readers.
    """
    makers = [n for n in ctx.graph.nodes if name in n.outputs]
    if not makers or makers[0].op_type not in ("Conv", "ConvTranspose"):
        return None
    readers = sum(n.inputs.count(name) for n in ctx.graph.nodes) + ctx.graph.outputs.count(name)
    if readers != 1:
        return None
    for op in reversed(ctx.ops):
        if op.out.tensor is source.tensor:
            plain = op.kind in ("conv", "depthwise")
            return op if plain or (op.kind == "deconv" and op.attrs["groups"] == 1) else None
    return None
