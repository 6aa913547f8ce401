"""Splitting: an operation whose weight is too large becomes several, along its output dimension.

One mechanism serves two needs: a weight beyond the device's largest image or allocation, and a
weight that alone would set the least feasible budget (a language model's head).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import prod

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.lower.ir import Op, Ref, Tensor, WeightExpr
from flashmem_lab.lower.layer import Precision, Storage
from flashmem_lab.lower.parts import part_of
from flashmem_lab.lower.textures import in_texels, most_channels, panel_columns, panel_folds
from flashmem_lab.lower.tiles import by_panels

# Output axis (of `out`), weight axis, and the operand axis that is cut along with them.
AXES = {"gemm": (3, 1, None), "conv": (1, 0, None), "deconv": (1, 1, None), "depthwise": (1, 0, 1)}

SHARE = 32  # a weight below 1/32 of all is not worth more launches
LEAST = 1 << 20  # bytes; nor is one below this
ALIGN = 64  # channels; tiles but the last are whole multiples


def texel_bytes(precision: Precision) -> int:
    """Bytes of one RGBA texel."""
    return 16 if precision is Precision.FP32 else 8


def split_large(
    ops: list[Op], device: DeviceSpec, precision: Precision, *, whole: bool = False
) -> list[Op]:
    """Replaces each operation whose weight is too large by tiles that run one after another.

    A tile may hold what activations need anyway at the busiest layer, or 1/32 of all weights,
    whichever is more: smaller tiles would not lower the least budget much. With `whole`, it may
    hold all that the device can.
    """
    sizes = {op: _texture_bytes(op, precision) for op in ops if op.weight and op.kind in AXES}
    cap = device.limits.max_alloc
    if not whole:
        cap = min(cap, max(_busiest(ops), sum(sizes.values()) // SHARE, LEAST))
    result: list[Op] = []
    for op in ops:
        for part in _bundles(op, cap, device, precision) if op in sizes else ():
            size = _texture_bytes(part, precision)
            result += _tiles(part, _columns(part, size, cap, device))
        if op not in sizes:
            result.append(op)
    return result


def _texture_bytes(op: Op, precision: Precision) -> int:
    return prod(in_texels(op).shape) // 4 * texel_bytes(precision)


def _groups(op: Op) -> int:
    """Groups that are kept apart in the weight's layout; a depthwise one's are its channels."""
    return op.integer("groups") if op.kind in ("conv", "deconv") else 1


def _columns(op: Op, size: int, cap: int, device: DeviceSpec) -> int:
    """Output channels of a tile; images have a widest one, buffers do not."""
    assert op.weight is not None
    axis = AXES[op.kind][1]
    channels = op.weight.shape[axis]
    rows = prod(op.weight.shape) // channels
    widest = channels
    if op.storage is Storage.IMAGE2D:
        limits = device.limits
        if by_panels(op, device.kind == "cpu"):
            widest = most_channels(rows, limits)
        else:
            folds = -(-rows // limits.image_height)
            widest = max(4, limits.image_width // folds * 4)
    if size <= cap and channels <= widest:
        return channels
    count = max(1, -(-size // cap))
    return min(widest, max(ALIGN, -(-channels // count // ALIGN) * ALIGN))


def _bundles(op: Op, cap: int, device: DeviceSpec, precision: Precision) -> list[Op]:
    """A convolution in groups as several with fewer groups each, if its weight is too large."""
    groups = _groups(op)
    if groups == 1:
        return [op]
    rows, channels = in_texels(op).shape  # each group's channels are padded to whole texels
    width = channels // groups
    most = cap // (rows * width // 4 * texel_bytes(precision))
    if op.storage is Storage.IMAGE2D:
        limits = device.limits
        if by_panels(op, device.kind == "cpu"):
            columns = panel_columns(width)
            high = -(-width // columns) * panel_folds(rows, columns, limits)
            most = min(most, limits.image_height // high)
        else:
            folds = -(-rows // limits.image_height)
            most = min(most, limits.image_width // folds * 4 // width)
    most = max(1, most)
    if most >= groups:
        return [op]
    assert op.weight is not None
    per_group = {"out": op.out.shape[1] // groups, "x": op.operands["x"].shape[1] // groups}
    rows_of_weight = op.weight.shape[0] // groups
    starts = range(0, groups, most)
    return [
        replace(
            _cut(op, 1, start * per_group["out"], count * per_group["out"]),
            operands={
                "x": op.operands["x"].slice(1, start * per_group["x"], count * per_group["x"])
            },
            attrs={**op.attrs, "groups": count},
            weight=op.weight.slice(0, start * rows_of_weight, count * rows_of_weight),
            tile=f"{number + 1}/{len(starts)}",
        )
        for number, start in enumerate(starts)
        for count in (min(most, groups - start),)
    ]


def _tiles(op: Op, columns: int) -> list[Op]:
    assert op.weight is not None
    out_axis, weight_axis, operand_axis = AXES[op.kind]
    channels = op.weight.shape[weight_axis]
    if columns >= channels or _groups(op) != 1:
        return [op]
    starts = range(0, channels, columns)
    tiles = []
    for number, start in enumerate(starts):
        count = min(columns, channels - start)
        operands = dict(op.operands)
        attrs = dict(op.attrs)
        if operand_axis is not None:
            operands["x"] = operands["x"].slice(operand_axis, start, count)
            attrs["groups"] = count
        weight: WeightExpr = op.weight.slice(weight_axis, start, count)
        tile = f"{number + 1}/{len(starts)}"
        tiles.append(
            replace(
                _cut(op, out_axis, start, count),
                operands=operands,
                attrs=attrs,
                weight=weight,
                tile=f"{op.tile}, {tile}" if op.tile else tile,
            )
        )
    return tiles


def _cut(op: Op, axis: int, start: int, count: int) -> Op:
    """The operation for a range of its output channels; its weight and operands stay whole."""
    channels = op.out.shape[axis]

    def cut(ref: Ref) -> Ref:
        return ref if ref.shape[axis] == 1 else ref.slice(axis, start, count)

    return replace(
        op,
        nodes=list(op.nodes),
        out=cut(op.out),
        extras=[cut(e) for e in op.extras],
        flops=op.flops * count // channels,
        parts=tuple(part_of(part, count, channels) for part in op.parts),
    )


def _busiest(ops: list[Op]) -> int:
    """Bytes of activations alive at the operation where they are most."""
    spans: dict[Tensor, list[int]] = defaultdict(list)
    for index, op in enumerate(ops):
        for ref in (*op.reads(), *op.writes()):
            if not ref.tensor.weight:
                spans[ref.tensor].append(index)
    change = [0] * (len(ops) + 1)
    for tensor, uses in spans.items():
        change[min(uses)] += tensor.bytes
        change[max(uses) + 1] -= tensor.bytes
    alive = most = 0
    for step in change:
        alive += step
        most = max(most, alive)
    return most
