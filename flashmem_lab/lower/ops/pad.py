"""Pad in its four modes, of any rank: axes without padding are merged to leave four."""

from __future__ import annotations

from itertools import groupby
from math import prod

import numpy as np

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.body import literal
from flashmem_lab.lower.context import Context, handles, text
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.layer import OperatorClass

Pads = dict[int, tuple[int, int]]
"""Axis -> elements before and after."""


@handles("Pad", narrow=True)
def pad(ctx: Context, node: Node) -> bool:
    ref = ctx.device(node.inputs[0])
    rank = len(ref.shape)
    given = ctx.numbers(ctx.optional(node, 1))
    if given is None:
        return False
    if not given.any():
        ctx.values[node.outputs[0]] = ref  # padding by nothing is a view
        return True
    axes, fill = np.arange(rank), np.zeros(1)
    if name := ctx.optional(node, 3):
        found = ctx.numbers(name)
        if found is None:
            return False
        axes = found % rank
    if name := ctx.optional(node, 2):
        found = ctx.numbers(name)
        if found is None:
            return False
        fill = found
    count = len(axes)
    pads: Pads = {}
    for axis, before, after in zip(axes, given[:count], given[count:], strict=True):
        start, stop = max(0, -int(before)), ref.shape[axis] - max(0, -int(after))
        ref = ref.slice(int(axis), start, stop - start)  # a negative pad cuts off
        pads[int(axis)] = (max(0, int(before)), max(0, int(after)))
    mode = text(node, "mode", "constant")
    value = literal(fill.reshape(-1)[0].item(), ref.dtype)
    ctx.values[node.outputs[0]] = padded(ctx, node, ref, pads, mode=mode, value=value)
    return True


def padded(
    ctx: Context, node: Node, ref: Ref, pads: Pads, *, mode: str = "constant", value: str = "0"
) -> Ref:
    """`ref` with elements added on either side of some axes.

    Args:
        ctx: where the operations go.
        node: which they belong to.
        ref: what is padded.
        pads: none negative.
        mode: of ONNX Pad.
        value: C literal, for mode "constant".
    """
    left = {axis: sides for axis, sides in sorted(pads.items()) if any(sides)}
    while left:
        now = list(left)
        while len(_groups(len(ref.shape), now)) > 4:
            now.pop(0)
        ref = _pass(ctx, node, ref, {axis: left.pop(axis) for axis in now}, mode, value)
    return ref


def _groups(rank: int, alone: list[int]) -> list[list[int]]:
    """Axes from 0 to `rank`: each of `alone` by itself, runs of others together."""
    keys = [axis if axis in alone else -1 for axis in range(rank)]
    runs = groupby(range(rank), key=keys.__getitem__)
    return [list(run) for _, run in runs]


def _pass(ctx: Context, node: Node, ref: Ref, pads: Pads, mode: str, value: str) -> Ref:
    """One kernel's worth of padding."""
    groups = _groups(len(ref.shape), list(pads))
    lead = (1,) * (4 - len(groups))
    shape = tuple(e + sum(pads.get(axis, (0, 0))) for axis, e in enumerate(ref.shape))
    out = ctx.tensor(node.outputs[0], TensorType(ref.dtype, shape))
    target = out.reshape((*lead, *(prod(shape[a] for a in group) for group in groups)))
    assert target is not None, "a new tensor takes every shape"
    source = ctx.dense(node, ref, (*lead, *(prod(ref.shape[a] for a in g) for g in groups)))
    before = (0,) * len(lead) + tuple(pads.get(group[0], (0, 0))[0] for group in groups)
    ctx.add(
        node,
        "pad",
        OperatorClass.ELEMENTAL,
        target,
        {"x": source},
        attrs={"mode": mode, "value": value, **{f"before{i}": b for i, b in enumerate(before)}},
        flops=out.size,
    )
    return out
