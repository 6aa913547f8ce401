"""Attention as one operation: products and softmax joined, so that scores never reach memory.

Recognised on operations, after fusion: a product, whose epilogue scales and masks; a softmax, which
may turn the NaN of rows without any key into 0; a product with the values. It does not matter
whether a graph spelled that out or had one operator for it.

Used wherever it fits: on two cores with PoCL 3.1 (2026-11-22, least of four) it took 1.65 ms where
scale, products and softmax apart took 2.96 (ViT: 12 heads, 197 x 197 x 64), 0.74 against 1.29
(GPT-Neo: 12, 128 x 128 x 64), 13 against 49 (Stable Diffusion: 8, 1024 x 1024 x 40), and 3.5
against 3.9 for one query of 16 heads over 1500 keys. On an H100 the third of these takes 0.14 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashmem_lab.lower.body import Body, Statement
from flashmem_lab.lower.ir import Op
from flashmem_lab.lower.layer import OperatorClass

LARGEST_HEAD = 256
"""Elements of a query or a value: a work-item holds two vectors of them for each of its rows."""

NAN_TO_ZERO = Body(
    ("float32",),
    (
        Statement("bool", "isnan({0}) ? 1 : 0", (0,)),
        Statement("float32", "0.0f", ()),
        Statement("float32", "{0} ? {1} : {2}", (1, 2, 0)),
    ),
    3,
)
"""What exporters hang on a softmax, because a row without any key gives NaN."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The three operations that make attention."""

    scores: Op
    softmax: Op
    product: Op

    @property
    def fits(self) -> bool:
        """True if one kernel can do what they do: dense scores in one order, heads not too long."""
        softmax, product = self.softmax, self.product
        shape = self.scores.out.shape
        between = (self.scores.out, softmax.operands["x"], softmax.out, product.operands["a"])
        return (
            all(ref.dense and ref.shape[-1] == shape[-1] for ref in between)
            and product.operands["a"].shape == shape
            and not softmax.attrs["log"]
            and (softmax.is_plain or (softmax.body == NAN_TO_ZERO and not softmax.extras))
            and max(self.scores.operands["a"].shape[3], product.out.shape[3]) <= LARGEST_HEAD
        )

    def joined(self) -> Op:
        """One operation: query (b0, b1, m, k), key (b0, b1, k, n), value (b0, b1, n, d).

        Operands s0, s1 ... are those of the program on scores, `attrs["scores"]`.
        """
        scores, softmax, product = self.scores, self.softmax, self.product
        return Op(
            "attention",
            OperatorClass.REUSABLE,  # nearly all of its work is that of two products
            scores.nodes + softmax.nodes + product.nodes,
            product.out,
            {
                "query": scores.operands["a"],
                "key": scores.operands["b"],
                "value": product.operands["b"],
                **{f"s{number}": ref for number, ref in enumerate(scores.extras)},
            },
            product.body,
            product.extras,
            attrs={"scores": scores.body, "guarded": int(not softmax.is_plain)},
            flops=scores.flops + product.flops,
        )


def is_factor(op: Op) -> bool:
    """True if a map multiplies one operand by literals: it may as well multiply the scores."""
    return (
        op.kind == "map"
        and len(op.extras) == 1
        and all(not s.args or s.code == "{0} * {1}" for s in op.body.statements)
        and sum(s.args.count(0) for s in op.body.statements) == 1
    )
