"""Bodies: element-wise programs in static single assignment, fused by concatenation.

A Body computes one result from its inputs, element by element. Value ids below `len(inputs)` are
inputs, the others are statements in order. Bodies know nothing of shapes: operands are read at the
coordinates of the element by the kernel that hosts the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CTYPES = {"float32": "float", "int64": "long", "int32": "int", "bool": "uchar"}
"""C type of each element type that lives on the device."""

MAX_STATEMENTS = 96  # past this, compile time grows faster than what a saved pass gives


_FUNCTION = re.compile(r"\b(a?(sin|cos|tan)h?|erf|exp|expm1|log|log1p|pow)\(")


@dataclass(frozen=True, slots=True)
class Statement:
    """`dtype` value computed by C expression `code`; `{0}`, `{1}` ... stand for `args`."""

    dtype: str
    code: str
    args: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """Element-wise program.

    Attributes:
        inputs: element type of each input.
        statements: in order; each may use inputs and earlier statements.
        result: id of the value that is the result.
    """

    inputs: tuple[str, ...]
    statements: tuple[Statement, ...]
    result: int

    @property
    def affine(self) -> bool:
        """True if it is only sums and products: no function, no choice."""
        return not any(re.search(r"[A-Za-z_]{2,}|[?<>]", s.code) for s in self.statements)

    @property
    def has_function(self) -> bool:
        """True if it evaluates a function that takes dozens of operations an element."""
        return any(_FUNCTION.search(s.code) for s in self.statements)

    @property
    def dtype(self) -> str:
        """Element type of the result."""
        if self.result < len(self.inputs):
            return self.inputs[self.result]
        return self.statements[self.result - len(self.inputs)].dtype


def identity(dtype: str) -> Body:
    """The body that passes its one input through."""
    return Body((dtype,), (), 0)


def inline(outer: Body, slot: int, inner: Body) -> Body:
    """Replaces input `slot` of `outer` by the result of `inner`.

    The inputs of the result are those of `inner`, then those of `outer` without `slot`.
    """
    n_inner, n_outer = len(inner.inputs), len(outer.inputs)
    n_inputs = n_inner + n_outer - 1

    def inner_id(value: int) -> int:
        return value if value < n_inner else value - n_inner + n_inputs

    kept = [i for i in range(n_outer) if i != slot]
    place = {old: n_inner + new for new, old in enumerate(kept)}
    place[slot] = inner_id(inner.result)
    base = n_inputs + len(inner.statements)

    def outer_id(value: int) -> int:
        return place[value] if value < n_outer else value - n_outer + base

    moved = [Statement(s.dtype, s.code, tuple(map(inner_id, s.args))) for s in inner.statements]
    moved += [Statement(s.dtype, s.code, tuple(map(outer_id, s.args))) for s in outer.statements]
    inputs = inner.inputs + tuple(outer.inputs[i] for i in kept)
    return Body(inputs, tuple(moved), outer_id(outer.result))


def merge_inputs(body: Body, same: list[int]) -> Body:
    """Body with input i read as input same[i] (same[i] <= i); unused inputs are dropped.

    `same` names the first of equal operands, so that none is read twice.
    """
    kept = [i for i, target in enumerate(same) if target == i]
    place = {old: new for new, old in enumerate(kept)}
    shift = len(kept) - len(body.inputs)

    def renumber(value: int) -> int:
        return place[same[value]] if value < len(body.inputs) else value + shift

    statements = tuple(
        Statement(s.dtype, s.code, tuple(map(renumber, s.args))) for s in body.statements
    )
    return Body(tuple(body.inputs[i] for i in kept), statements, renumber(body.result))


def literal(value: float | int | bool, dtype: str) -> str:
    """C literal of a constant, exact for float32."""
    if dtype != "float32":
        return f"{int(value)}{'L' if dtype == 'int64' else ''}"
    number = float(value)
    if number != number:
        return "NAN"
    if number in (float("inf"), float("-inf")):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    text = f"{number:.9g}"
    if "e" not in text and "." not in text:
        text += ".0"
    return f"({text}f)" if number < 0 else f"{text}f"


def to_c(body: Body, names: list[str]) -> tuple[list[str], str]:
    """Statements as C declarations and the C name of the result.

    Args:
        body: what to print.
        names: C expression of each input.
    """
    values = list(names)
    lines = []
    for index, statement in enumerate(body.statements):
        name = f"t{index}"
        code = statement.code.format(*(values[a] for a in statement.args))
        lines.append(f"const {CTYPES[statement.dtype]} {name} = {code};")
        values.append(name)
    return lines, values[body.result]
