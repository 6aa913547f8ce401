"""Graph -> LoweredModel: handlers node by node, then fusion, splitting and emission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.errors import ModelError, UsageError
from flashmem_lab.graph.evaluate import single_node_model
from flashmem_lab.graph.model import Graph, Node
from flashmem_lab.lower import ops as _handlers  # noqa: F401  (registers every handler)
from flashmem_lab.lower.blocks import storage_of
from flashmem_lab.lower.body import identity
from flashmem_lab.lower.context import HANDLERS, NARROW, NARROW_SAFE, Context
from flashmem_lab.lower.emit import Emitter
from flashmem_lab.lower.fuse import fuse
from flashmem_lab.lower.ir import Op, Ref, Tensor, WeightExpr
from flashmem_lab.lower.layer import LoweredModel, OperatorClass, Port, Precision, Storage
from flashmem_lab.lower.layout import layout_of
from flashmem_lab.lower.rms import lower_norm, rms_norms
from flashmem_lab.lower.shares import share_long
from flashmem_lab.lower.split import split_large


def lower(
    graph: Graph,
    device: DeviceSpec,
    *,
    precision: Precision = Precision.FP32,
    storage: Storage | None = None,
    unfused: Iterable[str] = (),
    whole: bool = False,
) -> LoweredModel:
    """Chooses kernels, layouts and fusions for every node of `graph`.

    Args:
        graph: with static shapes.
        device: whose limits bound images and whose class and tuning choose tiles.
        precision: element type of weights on the device; activations stay float32.
        storage: of the large weights; by default, of each what was measured to be faster, or what
            the device's class is faster with.
        unfused: values (`Part.value`) to keep in memory, each of which undoes a fusion.
        whole: True to split only what the device cannot hold, so that kernels are measured on the
            sizes that were asked for; else weights that alone set the least budget are split too.

    Returns:
        Layers in execution order with everything that planning needs.

    Raises:
        ModelError: an element type that neither the device nor the host can hold.
        UsageError: `unfused` names a value that no operation of this graph computes.
    """
    ctx = Context(graph)
    norms = rms_norms(graph)
    for node in graph.nodes:
        try:
            norm = norms.get(node.name)
            if norm is not None:
                if node is norm.last:
                    lower_norm(ctx, norm)
            elif not _on_device(ctx, node):
                _on_host(ctx, node)
        except ValueError as error:  # shapes that do not broadcast or reshape
            raise ModelError(
                f"node {node.name!r} ({node.op_type}): {error}",
                hint="export the model again; its shapes do not fit together",
            ) from error
    outputs = {name: _output(ctx, name) for name in graph.outputs}
    unfused = sorted(set(unfused))
    kept = {ref.tensor for ref in outputs.values()} | _named(ctx.ops, unfused)
    planned = fuse(ctx.ops, kept)
    planned = [op for op in planned if op.out.size or op.kind == "host"]
    for op in planned:
        op.storage = storage or storage_of(op, device)
    planned = share_long(split_large(planned, device, precision, whole=whole), ctx, device)
    emitter = Emitter(ctx, device, precision)
    for op in planned:
        emitter.add(op)
    covered = {name for op in planned for name in op.nodes}
    gone = Counter(node.op_type for node in graph.nodes if node.name not in covered)
    return LoweredModel(
        name=graph.name,
        fingerprint=graph.fingerprint,
        precision=precision,
        layers=tuple(emitter.layers),
        buffers=emitter.buffers,
        weights=emitter.weights,
        constants={
            name: (array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())
            for name, array in ctx.constants.items()
            if name in emitter.constants
        },
        inputs=tuple(_input_port(ctx, name, emitter.buffers) for name in graph.inputs),
        outputs=tuple(
            Port(name, ctx.type_of(name).dtype, ctx.shape(name), emitter.view(ref))
            for name, ref in outputs.items()
        ),
        eliminated=dict(sorted(gone.items())),
        layout=layout_of(graph, planned, outputs.values()),
        unfused=tuple(unfused),
    )


def _named(ops: list[Op], values: Iterable[str]) -> set[Tensor]:
    """The tensors of these names among what `ops` compute."""
    written = {ref.tensor.name: ref.tensor for op in ops for ref in op.writes()}
    unknown = [name for name in values if name not in written]
    if unknown:
        raise UsageError(
            f"no operation computes {unknown[0]!r}: there is no fusion to undo",
            hint="name the value of a part of a fused layer, as Layer.parts lists them",
        )
    return {written[name] for name in values}


def _on_device(ctx: Context, node: Node) -> bool:
    """Lowers the node to kernels or views, if there are any for it."""
    handler = HANDLERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    wraps = node.op_type not in NARROW_SAFE and any(
        ctx.type_of(name).dtype in NARROW for name in node.outputs if name
    )
    return handler is not None and not wraps and handler(ctx, node)


def _on_host(ctx: Context, node: Node) -> None:
    """The node as an operation that the host evaluates between two launches."""
    names = [name for name in dict.fromkeys(node.inputs) if name]
    values = {name: ctx.value(name) for name in names}
    inputs = {
        name: _dense(ctx, node, value) for name, value in values.items() if isinstance(value, Ref)
    }
    weights = tuple(
        (name, value) for name, value in values.items() if isinstance(value, WeightExpr)
    )
    outputs = {name: index for index, name in enumerate(node.outputs) if name}
    refs = [ctx.output(node, index) for index in outputs.values()]
    op = Op(
        "host",
        OperatorClass.HIERARCHICAL,
        [node.name],
        refs[0],
        inputs,
        identity(refs[0].dtype),
        [],
        attrs={
            "model": single_node_model(node, ctx.graph),
            "outputs": tuple(outputs),
            "weights": weights,
        },
        flops=sum(ref.size for ref in refs),
        more=refs[1:],
    )
    ctx.ops.append(op)


def _dense(ctx: Context, node: Node, ref: Ref) -> Ref:
    """A host node reads whole blocks: strided views are gathered on the device first."""
    return ref if ref.dense else ctx.dense(node, ref, ref.shape)


def _output(ctx: Context, name: str) -> Ref:
    """The view that becomes a graph output; inputs and weights are copied to a new tensor."""
    ref = ctx.device(name)
    if not ref.size:
        raise ModelError(
            f"output {name!r} has shape {list(ref.shape)}: it is empty",
            hint="give input shapes that leave something to compute",
        )
    if not ref.tensor.weight and not ref.tensor.input:
        return ref
    target = ctx.tensor(f"{name}.output", ctx.type_of(name))
    ctx.map([name], target, [ref], identity(ref.dtype))
    return target


def _input_port(ctx: Context, name: str, buffers: dict[str, int]) -> Port:
    kind = ctx.type_of(name)
    value = ctx.values[name]
    assert isinstance(value, Ref), "a graph input is a view of its tensor"
    tensor: Tensor = value.tensor
    view = None
    if tensor.name in buffers and tensor.size:
        view = Emitter.view(Ref.whole(tensor, kind.shape))
    return Port(name, kind.dtype, kind.shape, view)
