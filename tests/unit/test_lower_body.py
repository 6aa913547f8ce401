"""Element-wise bodies: inlining must not change what is computed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flashmem_lab.lower.body import (
    Body,
    Statement,
    identity,
    inline,
    literal,
    merge_inputs,
    to_c,
)

F = "float32"


@hs.composite
def bodies(draw, max_inputs: int = 3) -> Body:
    inputs = draw(hs.integers(1, max_inputs))
    statements = []
    for index in range(draw(hs.integers(0, 4))):
        known = inputs + index
        pick = hs.integers(0, known - 1)
        code = draw(hs.sampled_from(["{0} + 2 * {1}", "{0} * {1}", "{0} - {1}"]))
        statements.append(Statement(F, code, (draw(pick), draw(pick))))
    result = draw(hs.integers(0, inputs + len(statements) - 1))
    return Body((F,) * inputs, tuple(statements), result)


def evaluate(body: Body, values: list[int]) -> int:
    """The body by Python's own arithmetic, which the formulas above share with C."""
    known = list(values)
    for statement in body.statements:
        known.append(eval(statement.code.format(*(known[a] for a in statement.args))))
    return known[body.result]


@given(bodies(), bodies(), hs.data())
def test_inline_computes_the_composition(outer: Body, inner: Body, data) -> None:
    slot = data.draw(hs.integers(0, len(outer.inputs) - 1))
    numbers = hs.integers(0, 9)
    inner_values = [data.draw(numbers) for _ in inner.inputs]
    outer_values = [data.draw(numbers) for _ in outer.inputs]
    rest = outer_values[:slot] + outer_values[slot + 1 :]
    wanted = list(outer_values)
    wanted[slot] = evaluate(inner, inner_values)
    joined = inline(outer, slot, inner)
    assert evaluate(joined, inner_values + rest) == evaluate(outer, wanted)


def test_merge_inputs_reads_an_operand_once() -> None:
    body = Body((F, F, F), (Statement(F, "{0} * {1} - {2}", (0, 1, 2)),), 3)
    merged = merge_inputs(body, [0, 0, 2])
    assert len(merged.inputs) == 2
    assert evaluate(merged, [3, 4]) == evaluate(body, [3, 3, 4])


def test_to_c_declares_each_statement_with_its_type() -> None:
    body = Body((F, "int64"), (Statement("bool", "{0} < {1}", (0, 1)),), 2)
    assert to_c(body, ["a", "b"]) == (["const uchar t0 = a < b;"], "t0")
    assert to_c(identity(F), ["a"]) == ([], "a")


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, F, "0.1f"),
        (1 / 3, F, "0.333333333f"),
        (-1.0, F, "(-1.0f)"),
        (float("-inf"), F, "(-INFINITY)"),
        (float("nan"), F, "NAN"),
        (1e20, F, "1e+20f"),
        (7, "int64", "7L"),
        (True, "bool", "1"),
    ],
)
def test_literals_are_exact_c(value, dtype, text) -> None:
    assert literal(value, dtype) == text
