"""Layer lists of the shape of Llama 2, made from its published sizes; no graph, no weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from flashmem_lab.lower.layer import (
    KernelCall,
    Layer,
    LoweredModel,
    OperatorClass,
    Precision,
    Recipe,
    Storage,
    Weight,
)

FLOAT = 4  # bytes of an activation, whatever the weights
TILES = 8  # of the LM head, as lowering splits a layer whose weight dominates


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder; `kv` is the width of keys and values, `tokens` what one run reads."""

    blocks: int
    hidden: int
    heads: int
    kv: int
    inner: int
    vocabulary: int = 32000
    tokens: int = 128


SHAPES = {
    "llama2-13b": Shape(blocks=40, hidden=5120, heads=40, kv=5120, inner=13824),
    "llama2-70b": Shape(blocks=80, hidden=8192, heads=64, kv=1024, inner=28672),
}


def llama(name: str) -> LoweredModel:
    """The lowered model of that name, weights in fp16, without its embedding table."""
    shape = SHAPES[name]
    made = _List(shape.tokens)
    made.add("embed", OperatorClass.ELEMENTAL, shape.hidden)
    for block in range(shape.blocks):
        _block(made, shape, f"block{block}")
    made.add("norm", OperatorClass.HIERARCHICAL, shape.hidden, weights=[("norm.weight", 1)])
    for tile in range(TILES):
        made.product(f"lm_head [{tile + 1}/{TILES}]", shape.hidden, shape.vocabulary // TILES)
    return LoweredModel(
        name=name,
        fingerprint=name,
        precision=Precision.FP16,
        layers=tuple(made.layers),
        buffers=made.buffers,
        weights=made.weights,
        constants={},
        inputs=(),
        outputs=(),
    )


def _block(made: _List, shape: Shape, name: str) -> None:
    scores = shape.heads * shape.tokens
    made.add(f"{name}.norm1", OperatorClass.HIERARCHICAL, shape.hidden, weights=[("n1", 1)])
    made.product(f"{name}.q", shape.hidden, shape.hidden)
    made.product(f"{name}.k", shape.hidden, shape.kv)
    made.product(f"{name}.v", shape.hidden, shape.kv)
    made.add(f"{name}.rotate", OperatorClass.ELEMENTAL, shape.hidden)
    attended = 2 * shape.tokens * shape.tokens * shape.hidden
    made.add(f"{name}.scores", OperatorClass.REUSABLE, scores, flops=attended)
    made.add(f"{name}.softmax", OperatorClass.HIERARCHICAL, scores)
    made.add(f"{name}.mix", OperatorClass.REUSABLE, shape.hidden, flops=attended)
    made.product(f"{name}.o", shape.hidden, shape.hidden)
    made.add(f"{name}.norm2", OperatorClass.HIERARCHICAL, shape.hidden, weights=[("n2", 1)])
    made.product(f"{name}.gate", shape.hidden, shape.inner)
    made.product(f"{name}.up", shape.hidden, shape.inner)
    made.add(f"{name}.gated", OperatorClass.ELEMENTAL, shape.inner)
    made.product(f"{name}.down", shape.inner, shape.hidden)


@dataclass(slots=True)
class _List:
    """A chain of layers: each reads what the one before wrote."""

    tokens: int
    layers: list[Layer] = field(default_factory=list)
    buffers: dict[str, int] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    _width: int = 0

    def product(self, name: str, inner: int, outer: int) -> None:
        """A matrix product with a weight of inner x outer."""
        flops = 2 * self.tokens * inner * outer
        weight = (f"{name}.weight", inner)
        self.add(name, OperatorClass.REUSABLE, outer, flops=flops, weights=[weight])

    def add(
        self,
        name: str,
        op_class: OperatorClass,
        width: int,
        *,
        flops: int = 0,
        weights: list[tuple[str, int]] | None = None,
    ) -> None:
        """A layer with `width` outputs a token and weights of (name, rows of that width)."""
        names = []
        for own, rows in weights or []:
            full = own if own.startswith(name) else f"{name}.{own}"
            recipe = Recipe(None, "", ())
            self.weights[full] = Weight(
                full, Storage.IMAGE2D, "float16", -(-width // 4), rows, recipe
            )
            names.append(full)
        written = self.tokens * width * FLOAT
        read = self.tokens * self._width * FLOAT
        self.buffers[f"a{len(self.layers)}"] = written
        self.layers.append(
            Layer(
                index=len(self.layers),
                name=name,
                kind="gemm" if weights and flops else "map",
                op_class=op_class,
                work=KernelCall("none.cl", (), (), (1,), (1,)),
                reads=(f"a{len(self.layers) - 1}",) if self.layers else (),
                writes=(f"a{len(self.layers)}",),
                weights=tuple(names),
                flops=flops or self.tokens * width * 4,
                bytes_read=read + sum(self.weights[one].packed_bytes for one in names),
                bytes_written=written,
                nodes=(),
            )
        )
        self._width = width
