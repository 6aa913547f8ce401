"""Texture layouts: which texel of an RGBA image holds which weights.

A texel always holds four consecutive output channels of one reduction step, so that a kernel reads
one texel and updates four sums. Which texels are neighbours follows from who reads them:

- `Texture`, for GPUs, whose work-items read side by side: a row is one reduction step. An image
  with more of them than the device's tallest is folded: cut into equal parts side by side.
- `Panels`, for CPUs, whose cores each read one after another: the channels are cut into panels of
  up to 32, and a row holds all steps of one panel, so that a core reads memory in order. (PoCL, one
  core, 197x3072x768, weights not in the cache, 2026-11: 151 GF/s, with rows of steps 83.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flashmem_lab.device.spec import DeviceSpec, Limits
from flashmem_lab.lower.ir import Op, WeightExpr
from flashmem_lab.lower.layer import Storage


def default_storage(device: DeviceSpec) -> Storage:
    """Images where the device has them and reads them no slower than buffers.

    A CPU has no texture unit: PoCL's image read is some 3 ns a texel of arithmetic, a quarter of a
    whole model's time (`flashmem-lab bench kernels`, docs/speed.md).
    """
    images = device.limits.images and device.kind != "cpu"
    return Storage.IMAGE2D if images else Storage.BUFFER


@dataclass(frozen=True, slots=True)
class Texels:
    """A weight in texel order, whoever reads it.

    Attributes:
        expr: recipe whose result has shape (height, width * 4).
    """

    expr: WeightExpr

    @property
    def width(self) -> int:
        """Texels."""
        return self.expr.shape[1] // 4

    @property
    def height(self) -> int:
        """Texels."""
        return self.expr.shape[0]


@dataclass(frozen=True, slots=True)
class Texture(Texels):
    """Rows of reduction steps.

    Attributes:
        columns: texels of one reduction step (without folds).
        folded: True if the steps lie in several parts of `height` rows, side by side.
    """

    columns: int
    folded: bool


@dataclass(frozen=True, slots=True)
class Panels(Texels):
    """Rows of panels of output channels: shape (groups * panels * folds, steps * columns).

    Attributes:
        columns: channels of a panel, a multiple of 4.
        steps: reduction steps of a row.
        folds: rows of a panel; more than one where an image cannot be wide enough.
    """

    columns: int
    steps: int
    folds: int


def panel_columns(channels: int) -> int:
    """Output channels of a panel: at most 32, shared out evenly so that few are padding."""
    panels = -(-channels // MOST_COLUMNS)
    return _up4(-(-channels // panels))


def _up4(value: int) -> int:
    return -(-value // 4) * 4


MOST_COLUMNS = 32  # two vectors of 16 floats


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
    groups = op.integer("groups")
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


def panel_folds(steps: int, columns: int, limits: Limits) -> int:
    """Rows of a panel of `columns` channels; the same whether image or buffer."""
    return -(-steps // max(1, limits.image_width // (columns // 4)))


def most_channels(steps: int, limits: Limits) -> int:
    """Output channels of the largest image in panels; narrow ones where few rows hold the steps."""
    for columns in range(MOST_COLUMNS, 0, -4):
        panels_high = limits.image_height // panel_folds(steps, columns, limits)
        if panels_high:
            return panels_high * columns if columns == MOST_COLUMNS else columns
    return 4


def panels(op: Op, limits: Limits) -> Panels:
    """Texel order of the weight of a "gemm", "conv" or "deconv", by panels."""
    weight = op.weight
    assert weight is not None, "only operations with a weight have panels"
    if op.kind == "gemm":
        by_channel = weight.permute((1, 0)).reshape((1, weight.shape[1], weight.shape[0]))
    elif op.kind == "deconv":  # (g * ic, oc, kh, kw)
        groups, channels = op.integer("groups"), weight.shape[1]
        inputs, taps = weight.shape[0] // groups, prod(weight.shape[2:])
        by_input = weight.reshape((groups, inputs, channels, taps)).permute((0, 2, 1, 3))
        by_channel = by_input.reshape((groups, channels, inputs * taps))
    else:
        groups = op.integer("groups")
        by_channel = weight.reshape((groups, weight.shape[0] // groups, prod(weight.shape[1:])))
    groups, channels, steps = by_channel.shape
    columns = panel_columns(channels)
    count = -(-channels // columns)
    folds = panel_folds(steps, columns, limits)
    row = -(-steps // folds)
    padded = by_channel.pad(1, count * columns).pad(2, folds * row)
    cut = padded.reshape((groups, count, columns, folds * row)).permute((0, 1, 3, 2))
    return Panels(cut.reshape((groups * count * folds, row * columns)), columns, row, folds)
