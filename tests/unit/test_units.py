import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.units import Budget, format_bytes, format_ms, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200MB", 200_000_000),
        ("200 mb", 200_000_000),
        ("1.5GiB", 3 * 2**29),
        ("64k", 64_000),
        ("64KiB", 65_536),
        (".5kB", 500),
        ("7", 7),
        ("7B", 7),
    ],
)
def test_parse_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 2MB", "1iB", "1e3", "ten", "1MBs", "nan"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@given(st.integers(0, 10**15))
def test_plain_bytes_are_exact(count: int) -> None:
    assert parse_bytes(str(count)) == count


@given(st.integers(0, 10**15))
def test_what_is_printed_can_be_parsed(count: int) -> None:
    # One decimal: half of it is 5 % of the smallest figure before it.
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.05, abs=0.5)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999_940, "999.9 kB"),
        (999_960, "1.0 MB"),
        (83_900_000, "83.9 MB"),
    ],
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.214, "0.21 ms"), (35.16, "35.2 ms"), (999.9, "999.9 ms"), (1240, "1.24 s")],
)
def test_format_ms(milliseconds: float, text: str) -> None:
    assert format_ms(milliseconds) == text


def test_budgets() -> None:
    assert Budget.parse("min") == Budget.parse("0%") == Budget(share=0.0)
    assert Budget.parse(" 30% ").resolve(1000, 2000) == 1300
    assert Budget.parse("100%").resolve(1000, 2000) == 2000
    assert Budget.parse("5MB").resolve(1000, 2000) == 5_000_000


@pytest.mark.parametrize("text", ["101%", "-1%", "x%", "nan%", "0", "0MB", "all", ""])
def test_what_is_not_a_budget(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Budget.parse(text)


@given(st.floats(0, 1), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_share_lies_between_the_ends(share: float, least: int, more: int) -> None:
    assert least <= Budget(share=share).resolve(least, least + more) <= least + more


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_share_is_never_below_the_least(least: int, preload: int) -> None:
    assert Budget(share=1.0).resolve(least, preload) >= least


def test_no_budget_is_larger_than_the_arrays_of_a_plan() -> None:
    huge = Budget.parse("9999999999999999999999TB")
    assert huge.resolve(1, 2) == 2**62
    with pytest.raises(ValueError, match="larger than any memory"):
        Budget.parse("9" * 400)


def test_a_budget_is_bytes_or_a_share() -> None:
    with pytest.raises(ValueError, match="bytes or a share"):
        Budget()
    with pytest.raises(ValueError, match="bytes or a share"):
        Budget(bytes=1, share=0.5)
