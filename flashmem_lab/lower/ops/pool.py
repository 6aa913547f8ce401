"""Window operators on planes: pooling, resizing and padding."""

from __future__ import annotations

from math import prod

import numpy as np

from flashmem_lab.graph.model import Node
from flashmem_lab.lower.context import Context, handles, integer, integers, number, text
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.conv import padding, planes, two_d
from flashmem_lab.lower.ops.resize import axis_taps


@handles("MaxPool", "AveragePool")
def pool(ctx: Context, node: Node) -> bool:
    shape = ctx.shape(node.inputs[0])
    rank = len(shape) - 2
    if rank not in (1, 2) or len([o for o in node.outputs if o]) > 1:
        return False
    out = ctx.output(node)
    kernel = integers(node, "kernel_shape", ())
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    before = padding(node, kernel, strides, dilations, shape[2:], out.shape[2:])
    after = integers(node, "pads", (0,) * 2 * rank)[rank:]
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", ""):
        after = tuple(
            max(0, (o - 1) * s + (k - 1) * d + 1 - e - b)
            for o, s, k, d, e, b in zip(
                out.shape[2:], strides, kernel, dilations, shape[2:], before, strict=True
            )
        )
    kh, kw = two_d(kernel, 1)
    sh, sw = two_d(strides, 1)
    dh, dw = two_d(dilations, 1)
    ph, pw = two_d(before, 0)
    eh, ew = two_d(after, 0)
    ctx.add(
        node,
        "pool",
        OperatorClass.REUSABLE,
        planes(ctx, node, out),
        {"x": planes(ctx, node, ctx.device(node.inputs[0]))},
        attrs={
            "kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw, "ph": ph, "pw": pw,
            "eh": eh, "ew": ew, "maximum": int(node.op_type == "MaxPool"),
            "count_padding": integer(node, "count_include_pad", 0),
        },
        flops=prod(out.shape) * kh * kw,
    )  # fmt: skip
    return True


@handles("Resize")
def resize(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    out_shape = ctx.shape(node.outputs[0])
    rank = len(source.shape)
    changed = [a for a in range(rank) if source.shape[a] != out_shape[a]]
    if rank not in (3, 4) or any(a < 2 for a in changed):
        return False
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if integer(node, "antialias", 0) or "axes" in node.attributes:
        return False
    scales = ctx.numbers(ctx.optional(node, 2))
    if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        scales = None
    taps = []
    for axis in range(2, rank):
        given = None if scales is None or not scales.size else float(scales[axis])
        taps.append(_taps(node, source.shape[axis], out_shape[axis], given))
    if rank == 3:
        taps.insert(0, (np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32)))
    operands = {"x": planes(ctx, node, source)}
    for letter, (index, weight) in zip("yx", taps, strict=True):
        for suffix, table in (("at", index), ("by", weight)):
            expr = ctx.new_constant(f"{node.name}.{letter}{suffix}", table)
            operands[f"{letter}{suffix}"] = ctx.in_buffer(expr)
    ctx.add(
        node,
        "resize",
        OperatorClass.ELEMENTAL,
        planes(ctx, node, ctx.output(node)),
        operands,
        attrs={"ny": taps[0][0].shape[1], "nx": taps[1][0].shape[1]},
        flops=prod(out_shape) * 2 * taps[0][0].shape[1] * taps[1][0].shape[1],
    )
    return True


def _taps(node: Node, old: int, new: int, scale: float | None) -> tuple[np.ndarray, np.ndarray]:
    return axis_taps(
        old,
        new,
        scale if scale is not None else new / old,
        mode=text(node, "mode", "nearest"),
        coordinates=text(node, "coordinate_transformation_mode", "half_pixel"),
        rounding=text(node, "nearest_mode", "round_prefer_floor"),
        cubic=number(node, "cubic_coeff_a", -0.75),
        exclude_outside=bool(integer(node, "exclude_outside", 0)),
    )


@handles("Pad")
def pad(ctx: Context, node: Node) -> bool:
    source = ctx.device(node.inputs[0])
    mode = text(node, "mode", "constant")
    pads = ctx.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    if pads is not None and not any(pads):
        ctx.values[node.outputs[0]] = source
        return True
    if pads is None or ctx.optional(node, 3) or len(source.shape) > 4 or mode == "wrap":
        return False
    value = ctx.numbers(node.inputs[2]) if ctx.optional(node, 2) else np.zeros(1)
    if value is None or min(pads) < 0 or source.dtype != "float32":
        return False
    lead = 4 - len(source.shape)
    before = (0,) * lead + tuple(int(p) for p in pads[: len(source.shape)])
    out = ctx.output(node)
    ctx.add(
        node,
        "pad",
        OperatorClass.ELEMENTAL,
        _four(out),
        {"x": _four(source)},
        attrs={
            "mode": mode,
            "value": float(np.asarray(value).ravel()[0]),
            **{f"before{i}": b for i, b in enumerate(before)},
        },
        flops=out.size,
    )
    return True


def _four(ref: Ref) -> Ref:
    view = ref.quad()
    assert view is not None, "at most four dimensions"
    return view
