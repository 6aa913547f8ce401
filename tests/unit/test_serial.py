"""Plain values: everything comes back as it went, and nothing that does not fit is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.serial import from_plain, to_plain


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Circle:
    radius: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Label:
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Drawing:
    name: str
    file: Path
    raw: bytes
    shapes: tuple[Circle | Label, ...]
    best: Circle | None
    sizes: tuple[int, int]
    named: Mapping[str, tuple[int, ...]]
    facts: tuple[tuple[str, object], ...]
    value: int | float | str
    note: str = ""
    extra: Mapping[str, int] = field(default_factory=dict)


circles = st.builds(
    Circle, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(Colour)
)
labels = st.builds(Label, st.text(), st.text())
drawings = st.builds(
    Drawing,
    name=st.text(),
    file=st.sampled_from([Path("a/b"), Path("/c")]),
    raw=st.binary(),
    shapes=st.lists(circles | labels, max_size=4).map(tuple),
    best=st.none() | circles,
    sizes=st.tuples(st.integers(), st.integers()),
    named=st.dictionaries(st.text(), st.lists(st.integers()).map(tuple)),
    facts=st.lists(st.tuples(st.text(), st.integers() | st.text() | st.booleans())).map(tuple),
    value=st.integers() | st.floats(allow_nan=False) | st.text(),
)


@given(drawings)
def test_what_went_out_comes_back(drawing: Drawing) -> None:
    text = json.dumps(to_plain(drawing))
    assert from_plain(json.loads(text), Drawing) == drawing


PLAIN = {
    "name": "n",
    "file": "a/b",
    "raw": "AAA=",
    "shapes": [{"type": "Circle", "radius": 1, "colour": "red"}],
    "best": None,
    "sizes": [1, 2],
    "named": {"a": [1]},
    "facts": [["a", [1, 2]]],
    "value": 3,
}


def test_defaults_may_be_left_out_and_lists_become_tuples() -> None:
    drawing = from_plain(PLAIN, Drawing)
    assert drawing.note == ""
    assert drawing.extra == {}
    assert drawing.facts == (("a", (1, 2)),)
    assert drawing.shapes == (Circle(1.0, Colour.RED),)


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("name", 1, "$.name: expected str, found int"),
        ("raw", "not base64!", "$.raw: not base64"),
        ("raw", "ä", "$.raw: not base64"),
        ("shapes", "abc", "$.shapes: expected a list"),
        ("shapes", [{"type": "Square"}], "$.shapes[0]: \"type\" is 'Square'"),
        ("shapes", [{"radius": 1.0}], "$.shapes[0]"),
        ("shapes", [3], "$.shapes[0]: expected one of"),
        ("shapes", [{"type": "Circle", "radius": "1", "colour": "red"}], "$.shapes[0].radius"),
        ("shapes", [{"type": "Circle", "radius": 1, "colour": "pink"}], "$.shapes[0].colour"),
        ("shapes", [{"type": "Circle", "radius": 1}], "no field 'colour'"),
        ("sizes", [1], "$.sizes: expected 2 elements"),
        ("sizes", [1, True], "$.sizes[1]: expected int, found bool"),
        ("named", {"a": [1.5]}, "$.named['a'][0]"),
        ("named", [], "$.named"),
        ("value", True, "$.value"),
        ("more", 1, "unknown field 'more'"),
    ],
)
def test_misfits_are_refused_with_their_path(key: str, value: object, where: str) -> None:
    with pytest.raises(ValueError, match=re.escape(where)):
        from_plain({**PLAIN, key: value}, Drawing)


def test_a_value_without_plain_form_is_refused() -> None:
    with pytest.raises(TypeError):
        to_plain(object())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match=r"\$\.radius: .* is not a finite number"):
        from_plain({"radius": number, "colour": "red"}, Circle)
