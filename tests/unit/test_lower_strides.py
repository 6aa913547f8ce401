"""Index arithmetic of views, against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flashmem_lab.lower import strides as st

extents = hs.lists(hs.integers(1, 4), min_size=1, max_size=5)


def viewed(base: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    item = base.itemsize
    return np.lib.stride_tricks.as_strided(base, shape, [s * item for s in strides])


@given(extents, hs.randoms(use_true_random=False), hs.data())
def test_reshape_gives_the_same_elements_or_says_that_it_cannot(shape, random, data) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    moved = array.transpose(axes)
    steps = tuple(s // array.itemsize for s in moved.strides)
    factors = data.draw(hs.permutations(sorted(moved.shape)))
    target = data.draw(
        hs.sampled_from([(moved.size,), tuple(factors), (1, *moved.shape, 1), moved.shape])
    )
    found = st.reshape(moved.shape, steps, target)
    wanted = moved.reshape(target)
    if found is not None:
        assert np.array_equal(viewed(array.ravel(), target, found), wanted)
    else:  # NumPy too had to copy
        assert not np.shares_memory(wanted, array)


@given(extents)
def test_contiguous_is_a_fixed_point_of_reshape(shape) -> None:
    assert st.reshape(shape, st.contiguous(shape), shape) == st.contiguous(shape)


@given(extents, hs.randoms(use_true_random=False))
def test_collapse_keeps_every_element_of_every_view(shape, random) -> None:
    array = np.arange(int(np.prod(shape)) * 2).reshape(*shape, 2)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    back = np.argsort(axes)
    dense = np.ascontiguousarray(array[..., 0].transpose(axes)).transpose(back)
    views = [array[..., 1], dense]
    steps = [tuple(s // 8 for s in v.strides) for v in views]
    short, merged = st.collapse(shape, steps)
    assert len(short) <= max(1, len([e for e in shape if e > 1]))
    for view, strides in zip(views, merged, strict=True):
        base = np.lib.stride_tricks.as_strided(view, short, [s * 8 for s in strides])
        assert np.array_equal(base.ravel(), view.ravel())


def test_broadcast_follows_numpy_and_refuses_what_numpy_refuses() -> None:
    assert st.broadcast((3, 1), (1, 0), (2, 3, 4)) == (0, 1, 0)
    with pytest.raises(ValueError, match="does not broadcast"):
        st.broadcast((3, 2), (2, 1), (3, 4))
    with pytest.raises(ValueError, match="does not broadcast"):
        st.broadcast((2, 3), (3, 1), (3,))
