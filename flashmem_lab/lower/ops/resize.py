"""Resize, two axes at a time: the axes that change become the planes of one kernel."""

from __future__ import annotations

from math import prod

import numpy as np

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.context import Context, handles, integer, integers, number, text
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.lower.ops.taps import axis_taps

_Taps = tuple[np.ndarray, np.ndarray]
"""Source indices and weights, each (new extent, taps)."""


@handles("Resize")
def resize(ctx: Context, node: Node) -> bool:
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False  # it has elements of no source, as grid sampling does
    ref = ctx.device(node.inputs[0])
    if ref.dtype != "float32" and text(node, "mode", "nearest") != "nearest":
        return False
    scales = _scales(ctx, node, ref.shape)
    new = ctx.shape(node.outputs[0])
    taps = {
        axis: _taps(node, ref.shape[axis], new[axis], scales[axis])
        for axis in range(len(new))
        if (ref.shape[axis], scales[axis]) != (new[axis], 1.0)
    }
    while taps:
        *_, last = taps
        pair = [axis for axis in taps if last - axis <= 1]
        ref = _plane(ctx, node, ref, {axis: taps.pop(axis) for axis in pair})
    ctx.values[node.outputs[0]] = ref
    return True


def _scales(ctx: Context, node: Node, old: tuple[int, ...]) -> list[float]:
    """New extent by old of every axis, as the model states it: it need not be that quotient."""
    new = ctx.shape(node.outputs[0])
    scales = [n / o for n, o in zip(new, old, strict=True)]
    axes = [axis % len(old) for axis in integers(node, "axes", range(len(old)))]
    given, sizes = (ctx.numbers(ctx.optional(node, at)) for at in (2, 3))
    policy = text(node, "keep_aspect_ratio_policy", "stretch")
    if given is not None and given.size:
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = float(scale)
    elif sizes is not None and policy != "stretch":
        ratios = [size / old[axis] for axis, size in zip(axes, sizes, strict=True)]
        common = min(ratios) if policy == "not_larger" else max(ratios)
        for axis in axes:
            scales[axis] = common
    return scales


def _taps(node: Node, old: int, new: int, scale: float) -> _Taps:
    return axis_taps(
        old,
        new,
        scale,
        mode=text(node, "mode", "nearest"),
        coordinates=text(node, "coordinate_transformation_mode", "half_pixel"),
        rounding=text(node, "nearest_mode", "round_prefer_floor"),
        cubic=number(node, "cubic_coeff_a", -0.75),
        exclude_outside=bool(integer(node, "exclude_outside", 0)),
        antialias=bool(integer(node, "antialias", 0)),
    )


def _plane(ctx: Context, node: Node, ref: Ref, taps: dict[int, _Taps]) -> Ref:
    """`ref` resampled along one or two axes; the result is a view with those axes fastest."""
    others = [axis for axis in range(len(ref.shape)) if axis not in taps]
    order = (*others, *taps)
    shape = tuple(len(taps[a][0]) if a in taps else ref.shape[a] for a in order)
    lead = (1, 1, *(ref.shape[axis] for axis in others))
    lead = (prod(lead[:-1]), lead[-1])
    tables = list(taps.values())
    if len(tables) == 1:
        tables.insert(0, (np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32)))
    plane = (1, *(ref.shape[axis] for axis in taps))[-2:]
    operands = {"x": ctx.dense(node, ref.permute(order), (*lead, *plane))}
    for letter, (index, weight) in zip("yx", tables, strict=True):
        for suffix, table in (("at", index), ("by", weight)):
            expr = ctx.new_constant(f"{node.name}.{letter}{suffix}", table)
            operands[f"{letter}{suffix}"] = ctx.in_buffer(expr)
    out = ctx.tensor(node.outputs[0], TensorType(ref.dtype, shape))
    target = out.reshape((*lead, *(len(index) for index, _ in tables)))
    assert target is not None, "a new tensor takes every shape"
    counts = [index.shape[1] for index, _ in tables]
    ctx.add(
        node,
        "resize",
        OperatorClass.ELEMENTAL,
        target,
        operands,
        attrs={"ny": counts[0], "nx": counts[1]},
        flops=out.size * 2 * prod(counts),
    )
    return out.permute(tuple(order.index(axis) for axis in range(len(order))))
