"""Resize as tables: which source elements each output element reads along one axis, and how much.

Every mode of ONNX Resize is separable, so one kernel with small tables runs all of them; the
tables follow the operator's specification (onnx, Resize-19).
"""

from __future__ import annotations

import numpy as np


def axis_taps(
    old: int,
    new: int,
    scale: float,
    *,
    mode: str,
    coordinates: str,
    rounding: str,
    cubic: float,
    exclude_outside: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Source indices and weights of each output element along one axis.

    Args:
        old: extent before.
        new: extent after.
        scale: new / old as the model states it (it need not be that quotient exactly).
        mode: nearest, linear or cubic.
        coordinates: coordinate_transformation_mode.
        rounding: nearest_mode.
        cubic: cubic_coeff_a.
        exclude_outside: weights of elements outside are 0 and the rest sum to 1.

    Returns:
        int32 and float32 arrays of shape (new, taps).
    """
    if old == new and scale == 1.0:
        return np.arange(new, dtype=np.int32)[:, None], np.ones((new, 1), np.float32)
    # In float32, as onnxruntime: at .5 the last bit decides which neighbour is nearest.
    x = _source(np.arange(new, dtype=np.float32), old, new, np.float32(scale), coordinates)
    if mode == "nearest":
        index, weight = _nearest(x, rounding)[:, None], np.ones((new, 1))
    else:
        floor = np.floor(x)
        part = (x - floor)[:, None]
        if mode == "linear":
            index = floor[:, None] + np.arange(2)
            weight = np.concatenate([1 - part, part], axis=1)
        else:
            index = floor[:, None] + np.arange(-1, 3)
            weight = _cubic(part, cubic)
        if exclude_outside:
            weight = np.where((index < 0) | (index >= old), 0.0, weight)
            weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, old - 1).astype(np.int32), weight.astype(np.float32)


def _source(x: np.ndarray, old: int, new: int, scale: np.float32, coordinates: str) -> np.ndarray:
    if coordinates == "tf_half_pixel_for_nn":
        return np.asarray((x + 0.5) / scale)
    if coordinates == "asymmetric":
        return np.asarray(x / scale)
    if coordinates == "align_corners":
        return np.asarray(x * ((old - 1) / (new - 1))) if new > 1 else np.zeros_like(x)
    if coordinates == "pytorch_half_pixel" and new == 1:
        return np.zeros_like(x)
    if coordinates == "half_pixel_symmetric":
        adjusted = new / (scale * old)
        return np.asarray(old / 2 * (1 - adjusted) + (x + 0.5) / scale - 0.5)
    return np.asarray((x + 0.5) / scale - 0.5)


def _nearest(x: np.ndarray, rounding: str) -> np.ndarray:
    if rounding == "floor":
        return np.asarray(np.floor(x))
    if rounding == "ceil":
        return np.asarray(np.ceil(x))
    if rounding == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.ceil(x - 0.5)


def _cubic(part: np.ndarray, a: float) -> np.ndarray:
    def near(t: np.ndarray) -> np.ndarray:  # |t| <= 1
        return np.asarray(((a + 2) * t - (a + 3)) * t * t + 1)

    def far(t: np.ndarray) -> np.ndarray:  # 1 < |t| < 2
        return np.asarray((((t - 5) * t + 8) * t - 4) * a)

    return np.concatenate([far(part + 1), near(part), near(1 - part), far(2 - part)], axis=1)
