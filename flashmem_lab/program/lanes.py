"""The disk, transfer and compute lanes of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import ModelError, PlanError
from flashmem_lab.lower.layer import KernelCall, Layer, LoweredModel, Port
from flashmem_lab.plan.plan import Plan
from flashmem_lab.program.carry import (
    MOVER,
    MOVER_GROUP,
    MOVER_ITEMS,
    Carried,
    Entry,
    carrying,
)
from flashmem_lab.program.program import (
    ComputeCommand,
    HostStep,
    KernelSource,
    Launch,
    Move,
    Read,
    ReadOutput,
    Upload,
    WriteInput,
)

Renderer = Callable[[KernelCall], KernelSource]


def disk_lane(
    ids: Iterator[int],
    plan: Plan,
    model: LoweredModel,
    order: Iterable[str],
    alloc_ids: Mapping[str, int],
) -> tuple[Read, ...]:
    """Reads whole weights in `order`, chunk by chunk.

    Args:
        ids: where command ids come from.
        plan: says which weights are kept and how large a chunk is.
        model: the weights.
        order: every weight that the device holds.
        alloc_ids: id of the Alloc of each object.
    """
    kept = frozenset(plan.preloaded)
    reads: list[Read] = []
    for name in order:
        weight = model.weights[name]
        for chunk, (first_row, rows) in enumerate(weight.chunks(plan.chunk_bytes)):
            reads.append(
                Read(
                    id=next(ids),
                    weight=name,
                    chunk=chunk,
                    first_row=first_row,
                    rows=rows,
                    bytes=rows * weight.row_bytes,
                    once=name in kept,
                    after=(alloc_ids[name],),
                )
            )
    return tuple(reads)


def slot_size(plan: Plan, disk: Iterable[Read]) -> int:
    """Size of a staging slot: the largest chunk; 0 where no ring is used."""
    if plan.transport is Transport.MAP:
        return 0
    largest = max((read.bytes for read in disk), default=0)
    if largest > plan.staging_bytes:
        raise PlanError(
            f"the plan's staging ring of {plan.staging_bytes} bytes cannot hold a chunk of "
            f"{largest} bytes",
            hint="make the plan anew",
        )
    return largest


def transfer_lane(ids: Iterator[int], plan: Plan, disk: Iterable[Read]) -> tuple[Upload, ...]:
    """One for each read, or for `map` one for each weight, once all of it is read."""
    if plan.transport is not Transport.MAP:
        return tuple(
            Upload(
                id=next(ids),
                weight=read.weight,
                chunk=read.chunk,
                first_row=read.first_row,
                rows=read.rows,
                bytes=read.bytes,
                once=read.once,
                after=(read.id,),
            )
            for read in disk
        )
    by_weight: dict[str, list[Read]] = {}
    for read in disk:
        by_weight.setdefault(read.weight, []).append(read)
    return tuple(
        Upload(
            id=next(ids),
            weight=name,
            chunk=0,
            first_row=0,
            rows=sum(read.rows for read in reads),
            bytes=sum(read.bytes for read in reads),
            once=reads[0].once,
            after=tuple(read.id for read in reads),
        )
        for name, reads in by_weight.items()
    )


# --- compute -------------------------------------------------------------------------------


class ComputeLane:
    """Layers in order, each input before its first use, each output after its last writer.

    A command waits for the uploads and allocations that the lane has not waited for before; the
    lane runs in order, so what an earlier command waited for holds for the later ones.

    Attributes:
        commands: the lane.
        kernels: distinct sources, with their index.
        last_touch: id of the command that touched each object last.
    """

    def __init__(
        self,
        ids: Iterator[int],
        transfer: Iterable[Upload],
        alloc_ids: Mapping[str, int],
        renderer: Renderer,
        carried: Carried | None = None,
    ) -> None:
        self.commands: list[ComputeCommand] = []
        self.kernels: dict[KernelSource, int] = {}
        self.last_touch: dict[str, int] = {}
        self._ids = ids
        self._renderer = renderer
        self._carried = carried
        self._waited: set[int] = set()
        self._ready: dict[str, list[int]] = {name: [at] for name, at in alloc_ids.items()}
        uploads: dict[str, list[int]] = {}
        for upload in transfer:
            uploads.setdefault(upload.weight, []).append(upload.id)
        self._ready.update(uploads)  # an upload follows its object's allocation

    def add_layers(self, model: LoweredModel, barrier: Iterable[str]) -> None:
        """Adds the whole model; its first layer waits for the weights in `barrier` too.

        Raises:
            ModelError: an output is not made by any layer.
        """
        first_touch = {name: first for name, (first, _) in model.lifetimes().items()}
        written = dict(first_touch)  # an input that is also an output is written before that layer
        for layer in model.layers:
            written.update(dict.fromkeys(layer.writes, layer.index))
        inputs = _by_layer(model.inputs, first_touch)
        outputs = _by_layer(model.outputs, written)
        lost = {port.name for port in model.outputs}
        lost -= {port.name for ports in outputs.values() for port in ports}
        if lost:
            raise ModelError(f"output {min(lost)!r} of the model is not made by any layer")
        for layer in model.layers:
            for port in inputs.get(layer.index, []):
                self._add_port(WriteInput, port, layer.index)
            self._add_layer(layer, barrier if layer.index == 0 else ())
            for port in outputs.get(layer.index, []):
                self._add_port(ReadOutput, port, layer.index)

    def _add_port(
        self, command: type[WriteInput] | type[ReadOutput], port: Port, layer: int
    ) -> None:
        assert port.view is not None, "ports without a view have no layer"
        after = self._wait_for([port.view.ref])
        self._add(command(next(self._ids), layer, port.name, port.view, after), [port.view.ref])

    def _add_layer(self, layer: Layer, barrier: Iterable[str]) -> None:
        with_layer: tuple[Entry, ...] = ()
        if self._carried is not None:
            with_layer = self._carried.along.get(layer.index, ())
            for entry in self._carried.apart.get(layer.index, ()):
                self._add_move(entry, layer.index)
        touched = [*layer.weights, *layer.reads, *layer.writes]
        carries = tuple(entry.upload.id for entry in with_layer)
        after = self._wait_for([*barrier, *touched], carries)
        work = layer.work
        if isinstance(work, KernelCall):
            source = self._renderer(work)
            kernel = self._kernel(carrying(source, with_layer) if with_layer else source)
            self._add(
                Launch(
                    id=next(self._ids),
                    layer=layer.index,
                    name=layer.name,
                    kernel=kernel,
                    args=work.args,
                    global_size=work.global_size,
                    local_size=work.local_size,
                    after=after,
                    carries=carries,
                ),
                touched,
            )
        else:
            if with_layer:
                raise PlanError(f"layer {layer.index} is no kernel, and is to move weights")
            self._add(HostStep(next(self._ids), layer.index, layer.name, work, after), touched)

    def _add_move(self, entry: Entry, layer: int) -> None:
        upload = entry.upload
        self._add(
            Move(
                id=next(self._ids),
                layer=layer,
                name=upload.weight,
                kernel=self._kernel(carrying(MOVER, [entry])),
                global_size=(MOVER_ITEMS,),
                local_size=(MOVER_GROUP,),
                once=upload.once,
                after=self._wait_for([], [upload.id]),
                carries=(upload.id,),
            ),
            [],
        )

    def _kernel(self, source: KernelSource) -> int:
        return self.kernels.setdefault(source, len(self.kernels))

    def _wait_for(self, objects: Iterable[str], commands: Iterable[int] = ()) -> tuple[int, ...]:
        ready = {at for name in objects for at in self._ready[name]}
        wanted = sorted((ready | set(commands)) - self._waited)
        self._waited.update(wanted)
        return tuple(wanted)

    def _add(self, command: ComputeCommand, touched: Iterable[str]) -> None:
        self.commands.append(command)
        self.last_touch.update(dict.fromkeys(touched, command.id))


def _by_layer(ports: Iterable[Port], layers: Mapping[str, int]) -> dict[int, list[Port]]:
    """Ports by the layer that their buffer's name maps to; those of no layer are left out."""
    found: dict[int, list[Port]] = {}
    for port in ports:
        if port.view is not None and port.view.ref in layers:
            found.setdefault(layers[port.view.ref], []).append(port)
    return found
