"""A model opened and lowered for a device, and the same with other fusions undone.

Everything heavy is imported by the function that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from flashmem_lab.errors import ModelError, PlanError, UsageError
from flashmem_lab.shown import mimebundle
from flashmem_lab.units import format_bytes

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.graph import Graph
    from flashmem_lab.lower import LoweredModel, Precision, Storage
    from flashmem_lab.plan import Plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model opened and lowered for a device.

    Attributes:
        graph: what the file says.
        model: its layers.
        device: where it is to run.
        rss_bytes: resident set of this process before the file was opened, imports done.
        load_ms: time from the path to here.
        storage: asked for, or None for what the device is faster with.
    """

    graph: Graph
    model: LoweredModel
    device: DeviceSpec
    rss_bytes: int
    load_ms: float
    storage: Storage | None = None

    def _repr_mimebundle_(self, **keywords: object) -> dict[str, str]:
        from flashmem_lab.trace import summarize

        figures = summarize(self.model)
        return mimebundle(
            f"{figures.name} for {self.device.id}, {self.device.name}",
            f"{figures.layers} layers, {figures.weights} weights of "
            f"{format_bytes(figures.weight_bytes)}, {figures.flops / 1e9:,.1f} GFLOP a run",
            [
                ("inputs", ", ".join(f"{one.name} {list(one.shape)}" for one in self.model.inputs)),
                (
                    "outputs",
                    ", ".join(f"{one.name} {list(one.shape)}" for one in self.model.outputs),
                ),
                ("classes", ", ".join(f"{n} {name}" for name, n in figures.classes.items())),
                ("on the host", ", ".join(figures.host_layers)),
                (
                    "largest weight",
                    f"{figures.largest_weight}, {format_bytes(figures.largest_weight_bytes)}",
                ),
                ("precision", str(self.model.precision)),
            ],
        )


def load(
    path: Path | str,
    *,
    device: DeviceSpec,
    precision: Precision | None = None,
    storage: Storage | None = None,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Prepared:
    """Opens an ONNX file and lowers it for a device; reads no weights.

    Args:
        path: the .onnx file.
        device: from `open_device`.
        precision: of the weights on the device, fp32 by default.
        storage: image2d or buffer; by default what the device is faster with.
        dims: values of symbolic dimensions, by name.
        shapes: shapes of inputs, by name, for dimensions without one.

    Raises:
        ModelError, InputError: see `open_graph`.
        UsageError: it is a bundle.
    """
    began = perf_counter()
    from flashmem_lab.graph import open_graph
    from flashmem_lab.lower import Precision, lower

    rss_bytes = resident_bytes()
    try:
        graph = open_graph(path, dims=dims or {}, shapes=shapes or {})
    except ModelError:
        _refuse_bundle(Path(path))
        raise
    model = lower(graph, device, precision=precision or Precision.FP32, storage=storage)
    load_ms = (perf_counter() - began) * 1e3
    return Prepared(graph, model, device, rss_bytes, load_ms, storage)


def _refuse_bundle(path: Path) -> None:
    """What is no model may be a bundle, which only runs."""
    from flashmem_lab.program import is_bundle

    if path.is_file() and is_bundle(path):
        raise UsageError(
            f"{path} is a bundle, planned already; this takes an .onnx file",
            hint=f"flashmem-lab run {path}",
        ) from None


def fitted(prepared: Prepared, plan: Plan) -> Prepared:
    """`prepared`, its fusions undone as the plan says.

    Raises:
        PlanError: the plan names a value that this model does not compute.
    """
    if plan.undone_fusions == prepared.model.unfused:
        return prepared
    try:
        return lowered(prepared, plan.undone_fusions)
    except UsageError as error:
        raise PlanError(
            f"the plan undoes a fusion that this model does not have: {error.message}",
            hint="make the plan anew: flashmem-lab plan MODEL ... -o plan.json",
        ) from None


def lowered(prepared: Prepared, unfused: Iterable[str]) -> Prepared:
    """`prepared`, lowered again with other fusions undone.

    Raises:
        UsageError: nothing computes one of the values of `unfused`.
    """
    from flashmem_lab.lower import lower

    model = lower(
        prepared.graph,
        prepared.device,
        precision=prepared.model.precision,
        storage=prepared.storage,
        unfused=unfused,
    )
    return replace(prepared, model=model)


def resident_bytes() -> int:
    """Resident set of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)
