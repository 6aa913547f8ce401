"""Small models in ONNX's text form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from onnx import parser

from flashmem_lab.graph import Graph


def save(tmp_path: Path, text: str, *, name: str = "m.onnx") -> Path:
    """Writes a model given in ONNX's text form."""
    path = tmp_path / name
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def model(body: str, opset: int = 17) -> str:
    return f'<ir_version: 8, opset_import: ["" : {opset}]>\n{body}'


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.nodes)
