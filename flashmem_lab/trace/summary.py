"""What a lowered model is made of, in the few figures that people ask for first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flashmem_lab.lower.layer import HostCall, KernelCall, LoweredModel


@dataclass(frozen=True, slots=True)
class LayerLine:
    """One layer of the list of the heaviest ones."""

    name: str
    kind: str
    op_class: str
    weight_bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """A model in figures.

    Attributes:
        name: of the model.
        layers: how many.
        classes: layers by operator class.
        kinds: layers by kind of kernel.
        kernels: kernel launches.
        host_layers: names of the layers that run on the host.
        eliminated: ONNX nodes that cost nothing, by operator.
        weights: packed weights on the device.
        weight_bytes: their bytes together.
        largest_weight, largest_weight_bytes: the biggest one.
        activation_bytes: all activation buffers, if they were alive together.
        flops: of one run.
        top: layers with most weight bytes, then most work.
    """

    name: str
    layers: int
    classes: Mapping[str, int]
    kinds: Mapping[str, int]
    kernels: int
    host_layers: tuple[str, ...]
    eliminated: Mapping[str, int]
    weights: int
    weight_bytes: int
    largest_weight: str
    largest_weight_bytes: int
    activation_bytes: int
    flops: int
    top: tuple[LayerLine, ...]


def summarize(model: LoweredModel, top: int = 8) -> GraphSummary:
    """Figures of `model`, with its `top` heaviest layers."""
    sizes = {name: weight.device_bytes for name, weight in model.weights.items()}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    lines = [
        LayerLine(
            name=layer.name,
            kind=layer.kind,
            op_class=layer.op_class.value,
            weight_bytes=sum(sizes[name] for name in layer.weights),
            flops=layer.flops,
        )
        for layer in model.layers
    ]
    lines.sort(key=lambda line: (line.weight_bytes, line.flops), reverse=True)
    return GraphSummary(
        name=model.name,
        layers=len(model.layers),
        classes=_counted(layer.op_class.value for layer in model.layers),
        kinds=_counted(layer.kind for layer in model.layers),
        kernels=sum(isinstance(layer.work, KernelCall) for layer in model.layers),
        host_layers=tuple(layer.name for layer in model.layers if isinstance(layer.work, HostCall)),
        eliminated=dict(model.eliminated),
        weights=sum(1 for size in sizes.values() if size),
        weight_bytes=sum(sizes.values()),
        largest_weight=largest,
        largest_weight_bytes=sizes.get(largest, 0),
        activation_bytes=sum(model.buffers.values()),
        flops=sum(layer.flops for layer in model.layers),
        top=tuple(lines[:top]),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
