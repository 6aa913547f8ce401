"""Recipes as lazy arrays: any box of a packed weight can be made without making the whole.

Each step answers for a box of its result by pulling the box of its input that covers it; the last
pull reads the model's file. So a transposed table of gigabytes is packed in blocks of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from flashmem_lab.errors import FlashMemError, ModelError
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower.layer import Recipe, Step, Weight
from flashmem_lab.program.sources import Box, Sources, dtype_of, extents

_DEFECT_HINT = "this is a defect of the lowering; please report it with the model"


class Lazy(ABC):
    """An array that is made box by box.

    Attributes:
        shape, dtype: of the whole array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def pull(self, box: Box) -> np.ndarray:
        """The elements inside `box`, of its shape; the caller does not write to it."""

    def whole(self) -> np.ndarray:
        """The whole array."""
        return self.pull(tuple((0, size) for size in self.shape))


def lazy_weight(weight: Weight, sources: Sources) -> Lazy:
    """The packed form of `weight`: shape (height, elements of a row), its own dtype.

    Raises:
        FlashMemError: a step does not fit its input, or the result does not fit the weight.
    """
    array = lazy_recipe(weight.recipe, sources, weight.name)
    if array.dtype != dtype_of(weight.dtype):
        array = _Cast(array, dtype_of(weight.dtype), weight.name)
    shape = (weight.height, weight.row_bytes // array.dtype.itemsize)
    if prod(shape) != prod(array.shape):
        raise FlashMemError(
            f"weight {weight.name!r}: the recipe makes {list(array.shape)}, "
            f"the packed layout is {list(shape)}",
            hint=_DEFECT_HINT,
        )
    return _Reshape(array, shape)


def lazy_recipe(recipe: Recipe, sources: Sources, name: str) -> Lazy:
    """The result of a recipe, before the packed layout is put on it.

    Args:
        recipe: what to do.
        sources: where files and constants are read.
        name: of the weight, for messages.

    Raises:
        FlashMemError: a step does not fit its input.
    """
    array: Lazy
    if recipe.source is not None:
        array = _Stored(recipe.source, sources)
    else:
        array = _Held(sources.constant(recipe.constant))
    for step in recipe.steps:
        try:
            array = _apply(array, step, sources, name)
        except (ValueError, IndexError, TypeError) as error:
            raise FlashMemError(
                f"weight {name!r}: step {step.op}{step.args} does not fit "
                f"{list(array.shape)} {array.dtype}: {error}",
                hint=_DEFECT_HINT,
            ) from error
    return array


def _apply(array: Lazy, step: Step, sources: Sources, name: str) -> Lazy:
    if step.op == "cast":
        return _Cast(array, dtype_of(str(step.args[0])), name)
    if step.op == "scale":
        axis, constant = step.args
        return _Scale(array, _axis(array, axis), sources.constant(str(constant)).reshape(-1))
    args = [int(arg) for arg in step.args]
    if step.op == "reshape":
        return _Reshape(array, _resolve_shape(array.shape, args))
    if step.op == "permute":
        return _Permute(array, tuple(args))
    if step.op == "slice":
        axis, start, stop, stride = args
        axis = _axis(array, axis)
        picked = range(array.shape[axis])[start:stop:stride]
        return _Take(array, axis, np.asarray(picked, np.int64))
    if step.op == "take":
        axis = _axis(array, args[0])
        return _Take(array, axis, _normalised(args[1:], array.shape[axis]))
    if step.op == "pad":
        return _Pad(array, _axis(array, args[0]), args[1])
    raise ValueError(f"there is no step {step.op!r}")


def _axis(array: Lazy, axis: int | str) -> int:
    return range(len(array.shape))[int(axis)]


def _resolve_shape(old: tuple[int, ...], new: Sequence[int]) -> tuple[int, ...]:
    """`new` with its -1, if any, filled in."""
    known = prod(size for size in new if size != -1)
    shape = tuple(prod(old) // max(1, known) if size == -1 else size for size in new)
    if list(new).count(-1) > 1 or prod(shape) != prod(old) or min(shape, default=1) < 0:
        raise ValueError(f"{prod(old)} elements do not make {list(new)}")
    return shape


def _normalised(indices: Sequence[int], size: int) -> np.ndarray:
    """Indices counted from the front."""
    return np.asarray([range(size)[index] for index in indices], np.int64)


# --- leaves --------------------------------------------------------------------------------


class _Stored(Lazy):
    def __init__(self, ref: WeightRef, sources: Sources) -> None:
        self.shape, self.dtype = ref.shape, dtype_of(ref.dtype)
        self._ref, self._sources = ref, sources

    def pull(self, box: Box) -> np.ndarray:
        return self._sources.read(self._ref, box)


class _Held(Lazy):
    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self._array = array

    def pull(self, box: Box) -> np.ndarray:
        return self._array[tuple(slice(*ends) for ends in box)]


# --- steps ---------------------------------------------------------------------------------


class _Permute(Lazy):
    def __init__(self, inner: Lazy, axes: tuple[int, ...]) -> None:
        if sorted(axes) != list(range(len(inner.shape))):
            raise ValueError("not a permutation of the axes")
        self.shape, self.dtype = tuple(inner.shape[axis] for axis in axes), inner.dtype
        self._inner, self._axes = inner, axes

    def pull(self, box: Box) -> np.ndarray:
        wanted = sorted(zip(self._axes, box, strict=True))
        return self._inner.pull(tuple(ends for _, ends in wanted)).transpose(self._axes)


class _Take(Lazy):
    """Picks `indices` (int64, from the front) along one axis; slices are a case of it."""

    def __init__(self, inner: Lazy, axis: int, indices: np.ndarray) -> None:
        shape = list(inner.shape)
        shape[axis] = len(indices)
        self.shape, self.dtype = tuple(shape), inner.dtype
        self._inner, self._axis, self._indices = inner, axis, indices

    def pull(self, box: Box) -> np.ndarray:
        picked = self._indices[slice(*box[self._axis])]
        if len(picked) == 0:
            return np.empty(extents(box), self.dtype)
        low, high = int(picked.min()), int(picked.max()) + 1
        if high - low <= 2 * len(picked):
            covered = self._pull_range(box, low, high)
            in_order = np.array_equal(picked, np.arange(low, high))
            return covered if in_order else np.take(covered, picked - low, self._axis)
        # Far-apart rows: what lies between them would be read for nothing.
        rows = [self._pull_range(box, index, index + 1) for index in picked.tolist()]
        return np.concatenate(rows, self._axis)

    def _pull_range(self, box: Box, start: int, stop: int) -> np.ndarray:
        return self._inner.pull((*box[: self._axis], (start, stop), *box[self._axis + 1 :]))


class _Cast(Lazy):
    """Changes the element type; a finite value that float16 cannot hold is refused."""

    def __init__(self, inner: Lazy, dtype: np.dtype, name: str) -> None:
        self.shape, self.dtype = inner.shape, dtype
        self._inner, self._name = inner, name

    def pull(self, box: Box) -> np.ndarray:
        array = self._inner.pull(box)
        with np.errstate(over="ignore"):  # looked for below, to name the weight
            cast = array.astype(self.dtype, copy=False)
        if self.dtype == np.float16 and self._inner.dtype != np.float16:
            lost = np.isinf(cast)
            if lost.any() and np.isfinite(array[lost]).any():
                values = array[lost]
                largest = float(np.abs(values[np.isfinite(values)]).max())
                raise FlashMemError(
                    f"weight {self._name!r} holds {largest:g}, beyond the 65504 of fp16",
                    hint="--precision fp32",
                )
        return cast


class _Scale(Lazy):
    """Multiplies along one axis by a vector (or a scalar), in the wider of the two types."""

    def __init__(self, inner: Lazy, axis: int, factors: np.ndarray) -> None:
        if len(factors) not in (1, inner.shape[axis]):
            raise ValueError(f"{len(factors)} factors for {inner.shape[axis]} elements")
        self.shape, self.dtype = inner.shape, inner.dtype
        self._inner, self._axis = inner, axis
        self._factors = np.broadcast_to(factors, inner.shape[axis : axis + 1])

    def pull(self, box: Box) -> np.ndarray:
        factors = self._factors[slice(*box[self._axis])]
        shape = [1] * len(box)
        shape[self._axis] = len(factors)
        product: np.ndarray = self._inner.pull(box) * factors.reshape(shape)
        return product.astype(self.dtype, copy=False)


class _Pad(Lazy):
    """Grows one axis to `size` with zeros at its end."""

    def __init__(self, inner: Lazy, axis: int, size: int) -> None:
        if size < inner.shape[axis]:
            raise ValueError(f"axis {axis} is longer than {size} already")
        shape = list(inner.shape)
        shape[axis] = size
        self.shape, self.dtype = tuple(shape), inner.dtype
        self._inner, self._axis = inner, axis

    def pull(self, box: Box) -> np.ndarray:
        start, stop = box[self._axis]
        end = min(stop, self._inner.shape[self._axis])
        if end == stop:
            return self._inner.pull(box)
        out = np.zeros(extents(box), self.dtype)
        if start < end:
            inner_box = (*box[: self._axis], (start, end), *box[self._axis + 1 :])
            out[tuple(slice(0, size) for size in extents(inner_box))] = self._inner.pull(inner_box)
        return out


class _Reshape(Lazy):
    """Row-major reshape.

    Old and new dimensions fall into groups of equal product; within a group both are one flat
    range. A box of the new array covers, in each group, a flat interval, which a box of the old
    dimensions covers in turn; the wanted elements are a strided window on what that pull gives.
    """

    def __init__(self, inner: Lazy, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, inner.dtype
        self._inner = inner
        self._groups = _groups(inner.shape, shape)

    def pull(self, box: Box) -> np.ndarray:
        inner_box: list[tuple[int, int]] = []
        flats: list[int] = []  # elements pulled, by group
        windows: list[tuple[int, list[int]]] = []  # first wanted element and strides, by group
        for old, new in self._groups:
            ends = box[new.start : new.stop]
            strides = _strides(self.shape[new.start : new.stop])
            low = sum(start * stride for (start, _), stride in zip(ends, strides, strict=True))
            high = sum((stop - 1) * s for (_, stop), s in zip(ends, strides, strict=True))
            cover = _cover(self._inner.shape[old.start : old.stop], low, high)
            inner_strides = _strides(self._inner.shape[old.start : old.stop])
            base = sum(a * stride for (a, _), stride in zip(cover, inner_strides, strict=True))
            inner_box += cover
            flats.append(prod(extents(tuple(cover))))
            windows.append((low - base, strides))
        flat = np.ascontiguousarray(self._inner.pull(tuple(inner_box))).reshape(-1)
        first = 0
        all_strides: list[int] = []
        for (offset, strides), scale in zip(windows, _strides(tuple(flats)), strict=True):
            first += offset * scale
            all_strides += [stride * scale * flat.itemsize for stride in strides]
        return as_strided(flat[first:], extents(box), all_strides, writeable=False)


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Elements between neighbours of a row-major array, by dimension."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _cover(shape: tuple[int, ...], low: int, high: int) -> list[tuple[int, int]]:
    """The least box of `shape` that is contiguous and holds flat elements low .. high inclusive."""
    box: list[tuple[int, int]] = []
    inside = True  # as long as low and high share every index so far
    for size, stride in zip(shape, _strides(shape), strict=True):
        if not inside:
            box.append((0, size))
            continue
        first, last = low // stride % size, high // stride % size
        box.append((first, last + 1))
        inside = first == last
    return box


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[range, range]]:
    """Runs of old and new dimensions with equal products, as short as can be."""
    if 0 in old:
        raise ModelError("a weight without elements cannot be packed")
    groups: list[tuple[range, range]] = []
    at_old = at_new = 0
    while at_old < len(old) or at_new < len(new):
        start_old, start_new = at_old, at_new
        at_old, at_new = min(at_old + 1, len(old)), min(at_new + 1, len(new))
        size_old, size_new = prod(old[start_old:at_old]), prod(new[start_new:at_new])
        while size_old != size_new:
            if size_old < size_new:
                size_old, at_old = size_old * old[at_old], at_old + 1
            else:
                size_new, at_new = size_new * new[at_new], at_new + 1
        groups.append((range(start_old, at_old), range(start_new, at_new)))
    return groups
