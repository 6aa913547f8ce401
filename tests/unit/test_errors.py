import errno
from pathlib import Path

import pytest

from flashmem_lab import errors
from flashmem_lab.errors import (
    BudgetTooSmall,
    CacheCorrupt,
    DiskFull,
    FlashMemError,
    ModelError,
    UnsupportedOperators,
    from_os_error,
)


def test_every_error_is_of_the_one_tree() -> None:
    found = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, Exception)
    ]
    assert len(found) > 10
    assert all(issubclass(item, FlashMemError) for item in found)


def test_the_hint_has_a_line_of_its_own() -> None:
    assert str(FlashMemError("it broke")) == "it broke"
    assert str(FlashMemError("it broke", hint="mend it")) == "it broke\n  hint: mend it"


def test_too_small_a_budget_says_what_would_do() -> None:
    error = BudgetTooSmall(budget=1000, needed=84_000_000, layer="lm_head")
    assert "1.0 kB" in str(error)
    assert "84.0 MB" in str(error)
    assert "'lm_head'" in str(error)
    assert "--budget min, or --budget 84000000" in error.hint
    assert (error.budget, error.needed, error.layer) == (1000, 84_000_000, "lm_head")


def test_all_unknown_operators_are_named() -> None:
    error = UnsupportedOperators(["ai.acme::Foo (a, b)", "Bar (c)"])
    assert isinstance(error, ModelError)
    assert "2 operator(s)" in str(error)
    assert "ai.acme::Foo (a, b), Bar (c)" in str(error)


def test_a_damaged_cache_names_file_and_weight() -> None:
    error = CacheCorrupt(Path("w.fmw"), "conv1")
    assert "w.fmw" in str(error)
    assert "'conv1'" in str(error)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_other_errors(code: int) -> None:
    error = from_os_error(OSError(code, "No space", "a.fmw"), "packing weights")
    assert isinstance(error, DiskFull)
    assert "packing weights a.fmw" in str(error)
    assert "FLASHMEM_LAB_CACHE" in error.hint


def test_other_errors_of_the_system_keep_their_words() -> None:
    error = from_os_error(PermissionError(errno.EACCES, "Permission denied", "a.json"), "saving")
    assert type(error) is FlashMemError
    assert str(error) == "Permission denied while saving a.json"
    assert str(from_os_error(OSError("odd"), "saving")) == "odd while saving"
