"""Index arithmetic of strided views: pure functions on (shape, strides), in elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Dims = tuple[int, ...]


def contiguous(shape: Sequence[int]) -> Dims:
    """Row-major strides of `shape`; dimensions of extent 1 get stride 0, never being stepped."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(0 if extent == 1 else step)
        step *= extent
    return tuple(reversed(strides))


def normalise(shape: Sequence[int], strides: Sequence[int]) -> Dims:
    """Stride 0 for every dimension of extent 1, so that equal views compare equal."""
    return tuple(
        0 if extent == 1 else stride for extent, stride in zip(shape, strides, strict=True)
    )


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """True if the view is a dense row-major block."""
    return normalise(shape, strides) == contiguous(shape)


def broadcast(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> Dims:
    """Strides that read a view of `shape` as if it had shape `target` (NumPy's rules).

    Raises:
        ValueError: the shapes do not broadcast.
    """
    lead = len(target) - len(shape)
    if lead < 0:
        raise ValueError(f"shape {tuple(shape)} does not broadcast to {tuple(target)}")
    result = [0] * lead
    for extent, stride, wanted in zip(shape, strides, target[lead:], strict=True):
        if extent not in (wanted, 1):
            raise ValueError(f"shape {tuple(shape)} does not broadcast to {tuple(target)}")
        result.append(0 if extent == 1 else stride)
    return tuple(result)


def reshape(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> Dims | None:
    """Strides of the same elements in row-major order under `target`, or None if a copy is needed.

    The method is NumPy's no-copy reshape: both shapes are cut into the shortest runs of equal
    product; a run of the old shape must be one arithmetic progression.
    """
    if prod(shape) != prod(target):
        raise ValueError(f"cannot reshape {tuple(shape)} to {tuple(target)}")
    if 0 in target:
        return contiguous(target)
    old = [(e, s) for e, s in zip(shape, strides, strict=True) if e != 1]
    new = [0] * len(target)
    wanted = [i for i, extent in enumerate(target) if extent != 1]
    i = j = 0
    while i < len(old) and j < len(wanted):
        i_end, j_end = i + 1, j + 1
        left, right = old[i][0], target[wanted[j]]
        while left != right:
            if left < right:
                left *= old[i_end][0]
                i_end += 1
            else:
                right *= target[wanted[j_end]]
                j_end += 1
        for k in range(i, i_end - 1):
            if old[k][1] != old[k + 1][0] * old[k + 1][1]:
                return None
        step = old[i_end - 1][1]
        for k in reversed(range(j, j_end)):
            new[wanted[k]] = step
            step *= target[wanted[k]]
        i, j = i_end, j_end
    return tuple(new)


def collapse(shape: Sequence[int], views: Sequence[Sequence[int]]) -> tuple[Dims, list[Dims]]:
    """Merges neighbouring dimensions that are mergeable in every one of `views` at once.

    Args:
        shape: common shape of all views.
        views: strides of each view.

    Returns:
        The shorter shape and the strides of each view under it; at least one dimension.
    """
    dims: list[int] = []
    merged: list[list[int]] = [[] for _ in views]
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        steps = [strides[axis] for strides in views]
        if dims and all(m[-1] == extent * s for m, s in zip(merged, steps, strict=True)):
            dims[-1] *= extent
            for m, s in zip(merged, steps, strict=True):
                m[-1] = s
        else:
            dims.append(extent)
            for m, s in zip(merged, steps, strict=True):
                m.append(s)
    if not dims:
        return (1,), [(0,) for _ in views]
    return tuple(dims), [tuple(m) for m in merged]
