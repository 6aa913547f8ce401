"""Opens an ONNX file: structure checked, shapes made static, constants folded, weights by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from flashmem_lab.errors import ModelError
from flashmem_lab.graph.convert import converted, inlined
from flashmem_lab.graph.dimensions import bind_inputs
from flashmem_lab.graph.fold import Folder
from flashmem_lab.graph.inference import declared_types
from flashmem_lab.graph.model import AttributeValue, Graph, Node
from flashmem_lab.graph.order import check_functions
from flashmem_lab.graph.scan import skeleton
from flashmem_lab.graph.tensors import TensorReader

OPSETS = range(7, 29)
"""Versions of the default domain that can be opened: to the newest that onnx 1.23 knows."""

LOWERED_FROM = 11
"""The oldest that kernels and views know; older models are brought to it when they are opened."""

_NOTHING: Mapping[str, int] = {}
_NO_SHAPES: Mapping[str, tuple[int, ...]] = {}


def open_graph(
    path: str | Path,
    *,
    dims: Mapping[str, int] = _NOTHING,
    shapes: Mapping[str, tuple[int, ...]] = _NO_SHAPES,
) -> Graph:
    """Opens an ONNX model without reading its weights.

    Every shape is static afterwards, so symbolic dimensions need values.

    Args:
        path: the .onnx file, opset 7 to 28, weights inline or in external files beside it.
        dims: value of each symbolic dimension, by name.
        shapes: shape of inputs whose dimensions have no name, by input name.

    Returns:
        The graph: nodes sorted, functions and constant branches inlined, constants folded, dead
        nodes and identities removed. Every graph output is the output of a node.

    Raises:
        ModelError: the file is missing, damaged, unsafe, cyclic or has data-dependent shapes.
        UnsupportedOperators: operators that nothing can run, all at once.
        InputError: dimensions without a value, or values that do not fit.
    """
    path = Path(path).absolute()
    model = _parse(path)
    opset = _opset(model, path)
    if opset < LOWERED_FROM:
        model, opset = converted(model, opset, LOWERED_FROM, path), LOWERED_FROM
    if model.functions:
        check_functions(model)
        model = inlined(model, opset, path)
    reader = TensorReader(path)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = bind_inputs(
        [value for value in model.graph.input if value.name not in initializers], dims, shapes
    )
    folder = Folder(opset, reader, inputs, declared_types(model.graph))
    outputs = folder.run(model.graph)
    nodes = _named(_alive(_with_outputs(folder.nodes, outputs), outputs))
    for name, value in outputs.items():
        folder.types[name] = folder.types[value]
    used = {*inputs, *outputs}
    used.update(name for node in nodes for name in (*node.inputs, *node.outputs) if name)
    graph = Graph(
        path=path,
        name=path.stem.encode(errors="backslashreplace").decode(),  # of any bytes; not all are text
        opset=opset,
        nodes=nodes,
        types={name: value for name, value in folder.types.items() if name in used},
        constants={name: array for name, array in folder.constants.items() if name in used},
        weights={name: ref for name, ref in folder.weights.items() if name in used},
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        fingerprint="",
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )
    return replace(graph, fingerprint=_fingerprint(graph, reader.file_sizes))


def _parse(path: Path) -> onnx.ModelProto:
    """The model without its weights."""
    if not path.is_file():
        raise ModelError(f"there is no model file {path}", hint="check the path")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton(path))
    except DecodeError as error:
        raise ModelError(
            f"{path} is damaged or not an ONNX model: {error}",
            hint="export or download the model again",
        ) from error
    _check_text(model, path)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError(f"{path} holds no graph", hint="give an .onnx file of a whole model")
    return model


def _check_text(message: Message, path: Path) -> None:
    """Refuses names that are not UTF-8: ONNX is proto2, whose parser lets them pass as bytes."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                _check_text(inner, path)
        elif field.type == FieldDescriptor.TYPE_STRING and any(
            not isinstance(text, str) for text in values
        ):
            raise ModelError(
                f"{path} is damaged: a {field.name!r} in it is not text",
                hint="export or download the model again",
            )


def _opset(model: onnx.ModelProto, path: Path) -> int:
    """Version of the default domain, refused when outside of what is supported."""
    versions = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelError(
            f"{path} does not say which opset it uses: it is cut short, or has no ONNX operators",
            hint="export or download the model again",
        )
    if versions[0] not in OPSETS:
        raise ModelError(
            f"{path} uses opset {versions[0]}; opsets {OPSETS[0]} to {OPSETS[-1]} are supported",
            hint="export it again, with another opset",
        )
    return versions[0]


def _with_outputs(nodes: Sequence[Node], outputs: Mapping[str, str]) -> list[Node]:
    """Nodes such that each graph output is made by a node under its own name.

    A value that was reached through identities takes the output's name; an Identity is added where
    it cannot (it is an input, a constant, or two outputs at once).
    """
    made = {name for node in nodes for name in node.outputs if name}
    renamed: dict[str, str] = {}
    copies = []
    for output, value in outputs.items():
        if value == output and value in made:
            continue
        if value in made and value not in outputs and value not in renamed:
            renamed[value] = output
        else:
            source = renamed.get(value, value)
            copies.append(Node(f"output:{output}", "Identity", "", (source,), (output,)))
    result = [
        replace(
            node,
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            outputs=tuple(renamed.get(name, name) for name in node.outputs),
        )
        for node in nodes
    ]
    return result + copies


def _alive(nodes: Sequence[Node], outputs: Mapping[str, str]) -> list[Node]:
    """The nodes that the outputs depend on."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def _named(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes with unique names."""
    taken = {node.name for node in nodes}
    seen: Counter[str] = Counter()
    result = []
    for node in nodes:
        name = node.name
        while seen[node.name] and name in taken:
            name = f"{node.name}_{seen[node.name]}"
            seen[node.name] += 1
        seen[node.name] += name == node.name
        taken.add(name)
        result.append(node if name == node.name else replace(node, name=name))
    return tuple(result)


def _fingerprint(graph: Graph, sizes: Mapping[Path, int]) -> str:
    """SHA-256 over everything but the weights' bytes: where they lie stands for them.

    File names count relative to the model's folder and the .onnx itself has none, so that a
    folder may be moved and the model renamed.
    """
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(repr(parts).encode())

    def place(file: Path) -> str:
        return "" if file == graph.path else file.relative_to(graph.path.parent).as_posix()

    add("flashmem-graph-1", graph.opset, graph.inputs, graph.outputs)
    for node in graph.nodes:
        attributes = [(key, _plain(value)) for key, value in sorted(node.attributes.items())]
        add(node.name, node.op_type, node.domain, node.inputs, node.outputs, attributes)
    for name, value in sorted(graph.types.items()):
        add(name, value.dtype, value.shape)
    for name, array in sorted(graph.constants.items()):
        add(name, _plain(array))
    for name, ref in sorted(graph.weights.items()):
        add(name, place(ref.file), ref.offset, ref.length, ref.dtype, ref.shape)
    used = {ref.file for ref in graph.weights.values()}
    add(sorted((place(file), sizes[file]) for file in used))
    return digest.hexdigest()


def _plain(value: AttributeValue) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    return value
