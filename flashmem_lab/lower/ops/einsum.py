"""Einsum: operands are contracted two at a time, each step a batched product of permuted views."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flashmem_lab.graph.model import Node, TensorType
from flashmem_lab.lower.context import Context, handles, text
from flashmem_lab.lower.ir import Ref
from flashmem_lab.lower.ops.linear import between_activations, real_product
from flashmem_lab.lower.ops.reduce import REDUCTIONS, reduced


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand and the letter of each of its axes."""

    ref: Ref
    letters: str

    def extents(self) -> dict[str, int]:
        return dict(zip(self.letters, self.ref.shape, strict=True))

    def ordered(self, letters: str) -> Ref:
        """The operand with its axes in the order of `letters`."""
        return self.ref.permute(tuple(self.letters.index(letter) for letter in letters))


@handles("Einsum")
def einsum(ctx: Context, node: Node) -> bool:
    """Letters of one operand alone are summed first; then products from left to right."""
    spelt = _letters(ctx, node)
    if spelt is None or not real_product(ctx, node):
        return False
    letters, result = spelt
    pairs = [
        pair
        for name, term in zip(node.inputs, letters, strict=True)
        for pair in zip(term, ctx.shape(name), strict=True)
    ]
    if any(dict(pairs)[letter] != extent for letter, extent in pairs):
        return False  # extents of 1 that broadcast
    terms = [_Term(ctx.device(n), term) for n, term in zip(node.inputs, letters, strict=True)]
    while len(terms) > 1:
        left, right, *rest = terms
        wanted = result + "".join(term.letters for term in rest)
        left = _summed(ctx, node, left, wanted + right.letters)
        right = _summed(ctx, node, right, wanted + left.letters)
        terms = [_product(ctx, node, left, right, wanted), *rest]
    ref = _summed(ctx, node, terms[0], result).ordered(result)
    ctx.values[node.outputs[0]] = ref
    return True


def _letters(ctx: Context, node: Node) -> tuple[list[str], str] | None:
    """The letters of each operand and of the result; None where an operand takes a diagonal.

    An ellipsis becomes capitals or digits that the equation does not use.
    """
    equation = text(node, "equation", "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    ranks = [len(ctx.shape(name)) for name in node.inputs]
    widths = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" if c not in equation]
    dots = "".join(
        spare[: max((w for t, w in zip(terms, widths, strict=True) if "." in t), default=0)]
    )
    if not arrow:  # what appears once, in alphabetical order, after the ellipsis
        once = sorted(c for c in set(left) - set(".,") if left.count(c) == 1)
        result = ("..." if dots else "") + "".join(once)
    terms = [
        term.replace("...", dots[len(dots) - width :])
        for term, width in zip(terms, widths, strict=True)
    ]
    result = result.replace("...", dots)
    return None if any(len(set(t)) != len(t) for t in (*terms, result)) else (terms, result)


def _summed(ctx: Context, node: Node, term: _Term, wanted: str) -> _Term:
    """The term without the axes whose letter nothing else wants."""
    axes = tuple(axis for axis, letter in enumerate(term.letters) if letter not in wanted)
    if not axes:
        return term
    kept = "".join(letter for letter in term.letters if letter in wanted)
    shape = tuple(term.extents()[letter] for letter in kept)
    out = ctx.tensor(f"{node.outputs[0]}.sum", TensorType("float32", shape))
    reduced(ctx, node, term.ref, axes, REDUCTIONS["ReduceSum"], out)
    return _Term(out, kept)


def _product(ctx: Context, node: Node, left: _Term, right: _Term, wanted: str) -> _Term:
    """Both contracted over the letters that they share and nothing wants any more."""
    shared = "".join(letter for letter in left.letters if letter in right.letters)
    batch = "".join(letter for letter in shared if letter in wanted)
    over = "".join(letter for letter in shared if letter not in wanted)
    rows = "".join(letter for letter in left.letters if letter not in shared)
    columns = "".join(letter for letter in right.letters if letter not in shared)
    extent = left.extents() | right.extents()
    lead = tuple(extent[letter] for letter in batch)

    def arranged(term: _Term, first: str, second: str) -> Ref:
        sizes = (prod(extent[c] for c in first), prod(extent[c] for c in second))
        return ctx.dense(node, term.ordered(batch + first + second), lead + sizes)

    a, b = arranged(left, rows, over), arranged(right, over, columns)
    letters = batch + rows + columns
    kind = TensorType("float32", tuple(extent[letter] for letter in letters))
    out = ctx.tensor(node.outputs[0], kind)
    flat = out.reshape((*lead, a.shape[-2], b.shape[-1]))
    assert flat is not None, "a new tensor takes every shape"
    between_activations(ctx, node, a, b, flat)
    return _Term(out, letters)
