"""No garbage is collected while it would disturb, and afterwards as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from flashmem_lab.garbage import undisturbed


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    """The collector is on when a test begins, and when it has ended."""
    gc.enable()
    yield
    gc.enable()


def test_within_another_one_it_stays_off_until_the_outer_one_ends() -> None:
    with undisturbed():
        with undisturbed():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_ends_it() -> None:
    with pytest.raises(ValueError, match="oh"), undisturbed():
        raise ValueError("oh")
    assert gc.isenabled()


def test_who_has_it_off_keeps_it_off() -> None:
    gc.disable()
    with undisturbed():
        pass
    assert not gc.isenabled()
