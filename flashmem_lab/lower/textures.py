"""Texture layouts: which texel of an RGBA image holds which weights.

A texel always holds four consecutive output channels of one reduction step, so that a kernel reads
one texel and updates four sums. Rows are reduction steps; an image with more of them than the
device's tallest image is folded: it is cut into equal parts that lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flashmem_lab.device.spec import Limits
from flashmem_lab.lower.ir import Op, WeightExpr
from flashmem_lab.lower.layer import Storage


@dataclass(frozen=True, slots=True)
class Texture:
    """A weight in texel order.

    Attributes:
        expr: recipe whose result has shape (height, width * 4).
        columns: texels of one reduction step (without folds).
        folded: True if the steps lie in several parts of `height` rows, side by side.
    """

    expr: WeightExpr
    columns: int
    folded: bool

    @property
    def width(self) -> int:
        """Texels."""
        return self.expr.shape[1] // 4

    @property
    def height(self) -> int:
        """Texels."""
        return self.expr.shape[0]


def _up4(value: int) -> int:
    return -(-value // 4) * 4


def in_texels(op: Op) -> WeightExpr:
    """The operation's weight as a matrix (reduction steps, padded output channels)."""
    weight = op.weight
    assert weight is not None, "only operations with a weight have a texture"
    if op.kind == "gemm":
        return weight.pad(1, _up4(weight.shape[1]))
    taps = prod(weight.shape[2:])
    if op.kind == "depthwise":  # (c, 1, kh, kw): a step is a tap
        flat = weight.reshape((weight.shape[0], taps))
        return flat.pad(0, _up4(flat.shape[0])).permute((1, 0))
    groups = op.attrs["groups"]
    assert isinstance(groups, int)
    if op.kind == "conv":  # (g * oc, ic, kh, kw): a step is (ic, tap)
        channels = weight.shape[0] // groups
        steps = weight.shape[1] * taps
        grouped = weight.reshape((groups, channels, steps)).pad(1, _up4(channels))
        return grouped.permute((2, 0, 1)).reshape((steps, groups * _up4(channels)))
    # deconv, (g * ic, oc, kh, kw): a step is (ic, tap)
    inputs, channels = weight.shape[0] // groups, weight.shape[1]
    grouped = weight.reshape((groups, inputs, channels, taps)).pad(2, _up4(channels))
    order = grouped.permute((1, 3, 0, 2))
    return order.reshape((inputs * taps, groups * _up4(channels)))


def texture(op: Op, limits: Limits, storage: Storage) -> Texture:
    """Texel order of the operation's weight; an image is folded to fit the device's tallest."""
    matrix = in_texels(op)
    steps, channels = matrix.shape
    folds = -(-steps // limits.image_height) if storage is Storage.IMAGE2D else 1
    if folds == 1:
        return Texture(matrix, channels // 4, folded=False)
    height = -(-steps // folds)
    parts = matrix.pad(0, folds * height).reshape((folds, height, channels))
    side_by_side = parts.permute((1, 0, 2)).reshape((height, folds * channels))
    return Texture(side_by_side, channels // 4, folded=True)
