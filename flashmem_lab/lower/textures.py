"""Texture layouts: which texel of an RGBA image holds which weights.

A texel always holds four consecutive output channels of one reduction step, so that a kernel reads
one texel and updates four sums. Rows are reduction steps; an image with more of them than the
device's tallest image is folded: rows beyond 2^shift continue further right.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flashmem_lab.device.spec import Limits
from flashmem_lab.lower.ir import Op, WeightExpr


@dataclass(frozen=True, slots=True)
class Texture:
    """A weight in texel order.

    Attributes:
        expr: recipe whose result has shape (height, width * 4).
        columns: texels of one reduction step (without folds).
        shift: rows are split at 2^shift; 0 if the image is not folded.
    """

    expr: WeightExpr
    columns: int
    shift: int

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


def texture(op: Op, limits: Limits) -> Texture:
    """Texel order of the operation's weight, folded to fit the device's tallest image."""
    matrix = in_texels(op)
    steps, channels = matrix.shape
    if steps <= limits.image_height:
        return Texture(matrix, channels // 4, 0)
    shift = limits.image_height.bit_length() - 1
    height = 1 << shift
    folds = -(-steps // height)
    padded = matrix.pad(0, folds * height).reshape((folds, height, channels))
    return Texture(
        padded.permute((1, 0, 2)).reshape((height, folds * channels)), channels // 4, shift
    )
