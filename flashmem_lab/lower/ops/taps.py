"""Resize as tables: which source elements each output element reads along one axis, and how much.

Every mode of ONNX Resize is separable, so one kernel with small tables runs all of them; the
tables follow the operator's specification (onnx, Resize-19).
"""

from __future__ import annotations

import math

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
    antialias: bool = False,
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
        antialias: the filter is as much wider as the axis gets shorter (linear and cubic).

    Returns:
        int32 and float32 arrays of shape (new, taps).
    """
    # In float32, as onnxruntime: at .5 the last bit decides which neighbour is nearest.
    x = _source(np.arange(new, dtype=np.float32), old, new, np.float32(scale), coordinates)
    if mode == "nearest":
        index, weight = _nearest(x, rounding)[:, None], np.ones((new, 1))
    else:
        # The filter's reach on either side; taps are counted from the element left of x.
        stretch = min(1.0, scale) if antialias else 1.0
        reach = (1 if mode == "linear" else 2) / stretch
        first = math.floor(-reach) + 1
        index = np.floor(x)[:, None] + np.arange(first, 2 - first)
        away = np.abs(index - x[:, None]) * stretch
        weight = np.maximum(0, 1 - away) if mode == "linear" else _cubic(away, cubic)
        if antialias:
            weight /= weight.sum(axis=1, keepdims=True)
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


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic at distance t."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
