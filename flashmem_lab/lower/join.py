"""Several lowered models, one after another, as one.

A queue of models is planned, checked, built and run by what plans, checks, builds and runs one
model: their layers in turn, with every name told apart by its place in the queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flashmem_lab.lower.layer import (
    Arg,
    HostCall,
    KernelCall,
    Layer,
    LoweredModel,
    Port,
    RowFetch,
    Storage,
    View,
    Weight,
)

Copies = Mapping[tuple[int, str], int]
"""(place in the queue, weight) -> the earlier place whose copy on the device it uses."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Models in turn as one model.

    Attributes:
        model: names are "PLACE/NAME", such as "2/pixel_values" for the third model's input.
        weights: of each weight of `model`, the place whose model it is from and its name there.
        starts: first layer of each place, and behind them the number of layers.
    """

    model: LoweredModel
    weights: Mapping[str, tuple[int, str]]
    starts: tuple[int, ...]


def join(models: Sequence[LoweredModel], copies: Copies | None = None) -> Joined:
    """The models of a queue as one.

    Args:
        models: in their order; a model may come again, as the same object.
        copies: which weights are not loaded again but still there from an earlier place. Every
            other occurrence has a copy of its own, except for tables that only the host reads.

    Raises:
        ValueError: no model, or models of several precisions.
    """
    if len({model.precision for model in models}) != 1:
        raise ValueError("a queue holds at least one model, all of one precision")
    layers: list[Layer] = []
    buffers: dict[str, int] = {}
    weights: dict[str, Weight] = {}
    origins: dict[str, tuple[int, str]] = {}
    constants: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    inputs: list[Port] = []
    outputs: list[Port] = []
    starts: list[int] = []
    for place, model in enumerate(models):
        first_place = next(at for at, other in enumerate(models) if other is model)
        names = _Names(place, first_place, model, copies or {})
        starts.append(len(layers))
        layers += [names.layer(layer, len(layers) + at) for at, layer in enumerate(model.layers)]
        buffers |= {names.own(name): size for name, size in model.buffers.items()}
        for name, weight in model.weights.items():
            joined = names.weight(name)
            weights.setdefault(joined, replace(weight, name=joined))
            origins.setdefault(joined, (place, name))
        constants |= {f"{first_place}/{name}": value for name, value in model.constants.items()}
        inputs += [names.port(port) for port in model.inputs]
        outputs += [names.port(port) for port in model.outputs]
    digest = hashlib.sha256("\n".join(model.fingerprint for model in models).encode())
    return Joined(
        LoweredModel(
            name=" + ".join(model.name for model in models),
            fingerprint=digest.hexdigest(),
            precision=models[0].precision,
            layers=tuple(layers),
            buffers=buffers,
            weights=weights,
            constants=constants,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        ),
        origins,
        (*starts, len(layers)),
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names of one model become at its place."""

    place: int
    first_place: int
    model: LoweredModel
    copies: Copies

    def own(self, name: str) -> str:
        return f"{self.place}/{name}"

    def weight(self, name: str) -> str:
        if self.model.weights[name].storage is Storage.HOST:
            return f"{self.first_place}/{name}"
        return f"{self.copies.get((self.place, name), self.place)}/{name}"

    def object(self, name: str) -> str:
        return self.weight(name) if name in self.model.weights else self.own(name)

    def view(self, view: View) -> View:
        return replace(view, ref=self.object(view.ref))

    def port(self, port: Port) -> Port:
        view = None if port.view is None else self.view(port.view)
        return replace(port, name=self.own(port.name), view=view)

    def layer(self, layer: Layer, index: int) -> Layer:
        return replace(
            layer,
            index=index,
            name=self.own(layer.name),
            work=self.work(layer.work),
            reads=tuple(map(self.own, layer.reads)),
            writes=tuple(map(self.own, layer.writes)),
            weights=tuple(map(self.weight, layer.weights)),
        )

    def work(self, work: KernelCall | HostCall | RowFetch) -> KernelCall | HostCall | RowFetch:
        if isinstance(work, KernelCall):
            return replace(work, args=tuple(map(self.arg, work.args)))
        if isinstance(work, RowFetch):
            return replace(
                work,
                table=self.weight(work.table),
                index=self.own(work.index),
                output=self.view(work.output),
            )
        return replace(
            work,
            inputs=tuple((name, self.view(view)) for name, view in work.inputs),
            outputs=tuple((name, self.view(view)) for name, view in work.outputs),
            weights=tuple(
                (name, self.weight(at), dtype, shape) for name, at, dtype, shape in work.weights
            ),
        )

    def arg(self, arg: Arg) -> Arg:
        return replace(arg, value=self.object(str(arg.value))) if arg.kind == "object" else arg
