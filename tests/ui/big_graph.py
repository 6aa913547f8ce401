"""A Graph value of any size, shaped like a transformer; no file behind it."""

from __future__ import annotations

from pathlib import Path

from flashmem_lab.graph import Graph
from flashmem_lab.graph.model import Node, TensorType, WeightRef

_HIDDEN = TensorType("float32", (1, 128, 1024))


class _Maker:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, WeightRef] = {}

    def add(self, op: str, scope: str, *inputs: str, weight: int = 0) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        if weight:
            self.weights[f"{name}.weight"] = WeightRef(
                Path("weights.bin"), 0, weight, "float32", (weight // 4,)
            )
            inputs = (*inputs, f"{name}.weight")
        self.nodes.append(Node(name, op, "", inputs, (f"{name}:0",), scope=scope))
        return f"{name}:0"


def big_graph(nodes: int) -> Graph:
    """Attention and a gated MLP, again and again, until there are at least `nodes` nodes."""
    make = _Maker()
    last, block = make.add("Gather", "embedding", "ids"), 0
    while len(make.nodes) < nodes:
        at = f"model.layers.{block}"
        norm = make.add("LayerNormalization", f"{at}.norm1", last, weight=4096)
        heads = []
        for name in ("q", "k", "v"):
            product = make.add("MatMul", f"{at}.attn.{name}", norm, weight=4 << 20)
            shaped = make.add("Reshape", f"{at}.attn", product)
            heads.append(make.add("Transpose", f"{at}.attn", shaped))
        scores = make.add("Softmax", f"{at}.attn", make.add("MatMul", f"{at}.attn", *heads[:2]))
        mixed = make.add("MatMul", f"{at}.attn", scores, heads[2])
        out = make.add("MatMul", f"{at}.attn.o", mixed, weight=4 << 20)
        middle = make.add("Add", at, out, last)
        norm = make.add("LayerNormalization", f"{at}.norm2", middle, weight=4096)
        gate = make.add("Gelu", f"{at}.mlp", make.add("MatMul", f"{at}.mlp", norm, weight=16 << 20))
        up = make.add("MatMul", f"{at}.mlp", norm, weight=16 << 20)
        down = make.add("Mul", f"{at}.mlp", gate, up)
        last = make.add("Add", at, make.add("MatMul", f"{at}.mlp", down, weight=16 << 20), middle)
        block += 1
    return Graph(
        path=Path("big.onnx"),
        name="big",
        opset=20,
        nodes=tuple(make.nodes),
        types={name: _HIDDEN for node in make.nodes for name in node.outputs},
        constants={},
        weights=make.weights,
        inputs=("ids",),
        outputs=(last,),
        fingerprint="",
    )
