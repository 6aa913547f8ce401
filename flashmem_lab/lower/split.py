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
from flashmem_lab.lower.textures import most_channels
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
    ops: list[Op], device: DeviceSpec, precision: Precision, storage: Storage
) -> list[Op]:
    """Replaces each operation whose weight is too large by tiles that run one after another.

    A tile may hold what activations need anyway at the busiest layer, or 1/32 of all weights,
    whichever is more: smaller tiles would not lower the least budget much.
    """
    sizes = {op: _texture_bytes(op, precision) for op in ops if op.weight and op.kind in AXES}
    cap = max(_busiest(ops), sum(sizes.values()) // SHARE, LEAST)
    cap = min(cap, device.limits.max_alloc)
    result: list[Op] = []
    for op in ops:
        result.extend(
            _tiles(op, _columns(op, sizes[op], cap, device, storage)) if op in sizes else [op]
        )
    return result


def _texture_bytes(op: Op, precision: Precision) -> int:
    assert op.weight is not None
    return prod(op.weight.shape) // 4 * texel_bytes(precision)


def _columns(op: Op, size: int, cap: int, device: DeviceSpec, storage: Storage) -> int:
    """Output channels of a tile; images have a widest one, buffers do not."""
    assert op.weight is not None
    axis = AXES[op.kind][1]
    channels = op.weight.shape[axis]
    rows = prod(op.weight.shape) // channels
    widest = channels
    if storage is Storage.IMAGE2D:
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


def _tiles(op: Op, columns: int) -> list[Op]:
    assert op.weight is not None
    out_axis, weight_axis, operand_axis = AXES[op.kind]
    channels = op.weight.shape[weight_axis]
    groups = op.attrs.get("groups", 1)
    if columns >= channels or (op.kind != "depthwise" and groups != 1):
        return [op]
    starts = range(0, channels, columns)
    tiles = []
    for number, start in enumerate(starts):
        count = min(columns, channels - start)

        def cut(ref: Ref, start: int = start, count: int = count) -> Ref:
            if ref.shape[out_axis] == 1:
                return ref
            return ref.slice(out_axis, start, count)

        operands = dict(op.operands)
        attrs = dict(op.attrs)
        if operand_axis is not None:
            operands["x"] = operands["x"].slice(operand_axis, start, count)
            attrs["groups"] = count
        weight: WeightExpr = op.weight.slice(weight_axis, start, count)
        tiles.append(
            replace(
                op,
                nodes=list(op.nodes),
                out=cut(op.out),
                extras=[cut(e) for e in op.extras],
                operands=operands,
                attrs=attrs,
                weight=weight,
                flops=op.flops * count // channels,
                parts=tuple(part_of(part, count, channels) for part in op.parts),
                tile=f"{number + 1}/{len(starts)}",
            )
        )
    return tiles


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
