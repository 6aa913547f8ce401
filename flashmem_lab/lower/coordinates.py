"""Index maps: views of one operation given in the coordinates of another.

A reshape or transpose between two operations is a map between their coordinates. Where strides
cannot express it (windows cut out of a plane, heads cut out of a row), a coordinate is split into
digits by division and remainder, so that the copy which would have moved the elements is not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul

from flashmem_lab.lower import strides as st
from flashmem_lab.lower.ir import Digits, Ref

Extents = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    """Dimensions of a view from the slowest to the fastest in memory."""

    axes: tuple[int, ...]

    @classmethod
    def of(cls, ref: Ref) -> _Order:
        steps = st.normalise(ref.shape, ref.strides)
        big = [a for a in range(len(steps)) if ref.shape[a] != 1]
        ones = [a for a in range(len(steps)) if ref.shape[a] == 1]
        return cls((*ones, *sorted(big, key=lambda a: -steps[a])))


@dataclass(frozen=True, slots=True)
class Transfer:
    """Views in coordinates of their own, moved to those in which a tensor is written.

    Attributes:
        shape: of the coordinates in which it is written.
        extents: of the digits of each of these coordinates, slowest first.
        strides: of each view, one for each digit of each coordinate.
        views: as they were; tensors and offsets stay.
    """

    shape: Extents
    extents: tuple[Extents, ...]
    strides: tuple[tuple[tuple[int, ...], ...], ...]
    views: tuple[Ref, ...]

    def apart(self) -> list[Ref]:
        """The views with a dimension for each digit."""
        shape = sum(self.extents, ())
        return [
            Ref(view.tensor, view.offset, shape, st.normalise(shape, sum(steps, ())))
            for view, steps in zip(self.views, self.strides, strict=True)
        ]

    def together(self) -> list[Ref]:
        """The views with a dimension for each coordinate, split where strides do not suffice."""
        return [
            Ref.of_digits(
                view.tensor,
                view.offset,
                [_merged(e, s) for e, s in zip(self.extents, steps, strict=True)],
            )
            for view, steps in zip(self.views, self.strides, strict=True)
        ]

    def spread(self, ref: Ref) -> Ref:
        """A view in the coordinates in which the tensor is written, with a dimension a digit."""
        result = ref.reshape(sum(self.extents, ()))
        assert result is not None, "splitting dimensions never needs a copy"
        return result


def transfer(written: Ref, read: Ref, views: Sequence[Ref]) -> Transfer | None:
    """`views`, given in the coordinates of `read`, in those of `written` (same tensor).

    Both must touch each element of the tensor once: then one is a permutation and a reshape of the
    other, and that is applied to all the views.

    Returns:
        The views in the coordinates of `written`; None where the two do not divide each other.
    """
    if written.offset or read.offset or read.size != written.size:
        return None
    flat = written.flat()
    from_order, to_order = _Order.of(read), _Order.of(flat)
    if not read.permute(from_order.axes).dense or not flat.permute(to_order.axes).dense:
        return None
    target = flat.permute(to_order.axes).shape
    common = _refinement(read.permute(from_order.axes).shape, target)
    if common is None:
        return None
    runs = dict(zip(to_order.axes, _runs(common, target), strict=True))
    # The digits of every coordinate of `written`, as positions in `common`.
    positions = [[p for axis in axes for p in runs[axis]] for axes in written.groups()]
    strides = []
    for view in views:
        fine = view.permute(from_order.axes).reshape(common)
        assert fine is not None, "splitting dimensions never needs a copy"
        steps = st.normalise(common, fine.strides)
        strides.append(tuple(tuple(steps[p] for p in place) for place in positions))
    extents = tuple(tuple(common[p] for p in place) for place in positions)
    return Transfer(written.shape, extents, tuple(strides), tuple(views))


def _suffixes(shape: Extents) -> list[int]:
    """Elements that a step along each dimension passes, and in all of them: fastest first."""
    return list(accumulate(reversed(shape), mul, initial=1))


def _refinement(left: Extents, right: Extents) -> Extents | None:
    """The coarsest shape of which both are merges of neighbours, if there is one."""
    marks = sorted({*_suffixes(left), *_suffixes(right)})
    if any(high % low for low, high in pairwise(marks)):
        return None
    return tuple(high // low for low, high in pairwise(marks))[::-1]


def _runs(fine: Extents, coarse: Extents) -> list[list[int]]:
    """For each dimension of `coarse`, the dimensions of `fine` that it merges."""
    result: list[list[int]] = []
    at = 0
    for extent in coarse:
        run, size = [], 1
        while size < extent:
            run.append(at)
            size *= fine[at]
            at += 1
        result.append(run)
    return result


def _merged(extents: Extents, strides: tuple[int, ...]) -> Digits:
    """Digits of one coordinate, neighbours merged where one stride serves both."""
    shape, (steps,) = st.collapse(extents, [strides])
    return tuple(zip(shape, steps, strict=True))
