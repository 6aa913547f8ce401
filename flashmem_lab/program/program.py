"""The Program value: commands in three lanes, explicit dependencies, one total order of memory.

How it runs. Each command has an id and the ids it waits for (`after`). Commands of one lane run
in their listed order; lanes run side by side. Memory commands form a total order of their own:
an allocation waits for every memory command before it, so what the device holds at any moment is
a prefix of that order - the same in every run, whatever the timing - and its peak is known exactly
beforehand. A free waits for the compute command that used the object last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import Arg, HostCall, Port, RowFetch, View
from flashmem_lab.plan.timeline import Pool


class ObjectKind(StrEnum):
    """The OpenCL object to create."""

    IMAGE2D = "image2d"
    BUFFER = "buffer"


@dataclass(frozen=True, slots=True)
class DeviceObject:
    """An image or buffer that the program creates and frees.

    Attributes:
        name: weight name or activation buffer name.
        kind, pool: what is created and which pool of the ledger counts it.
        bytes: counted in the ledger; tight rows.
        width, height: texels of an image (RGBA), else 0.
        dtype: float32 or float16 for images (channel type), else the element type.
    """

    name: str
    kind: ObjectKind
    pool: Pool
    bytes: int
    width: int
    height: int
    dtype: str


@dataclass(frozen=True, slots=True)
class PackedSpan:
    """Where a weight lies in the packed weight file or bundle.

    Attributes:
        offset: bytes from the start of the file that holds it, a multiple of 4096.
        bytes: length; rows are tight.
        row_bytes: bytes of one row.
        checksums: xxh3-64 of each of the weight's blocks (`Weight.blocks`).
        block_rows: rows of each block but the last.
        file: which of the weight files holds it; a queue of models has one for each model.
    """

    offset: int
    bytes: int
    row_bytes: int
    block_rows: int
    checksums: tuple[int, ...]
    file: int = 0


@dataclass(frozen=True, slots=True)
class Alloc:
    """Creates `object`; waits for all memory commands before it in order."""

    id: int
    object: str
    step: int
    once: bool  # True for a preloaded weight: made in the first run, kept for later ones


@dataclass(frozen=True, slots=True)
class Free:
    """Releases `object` once the commands in `after` are done."""

    id: int
    object: str
    step: int
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Disk lane: chunk `chunk` of `weight`, rows first_row .. first_row + rows.

    Into the mapped object (`map`) or into the next slot of the staging ring (`copy`).
    """

    id: int
    weight: str
    chunk: int
    first_row: int
    rows: int
    bytes: int
    once: bool
    after: tuple[int, ...]  # the weight's Alloc


@dataclass(frozen=True, slots=True)
class Upload:
    """Transfer lane: staging slot to rows of the object (`copy`), or unmapping it (`map`).

    With `inline` it only hands the slot to the device; a command of the compute lane that names it
    in `carries` moves it, and empties the slot by that.
    """

    id: int
    weight: str
    chunk: int
    first_row: int
    rows: int
    bytes: int
    once: bool
    after: tuple[int, ...]  # its Read (for `map`, all Reads of the weight: one Upload per weight)


@dataclass(frozen=True, slots=True)
class Launch:
    """Compute lane: one kernel launch.

    A kernel that carries chunks has more arguments, behind `args`: `carry.py` says which.
    """

    id: int
    layer: int
    name: str
    kernel: int  # index into Program.kernels
    args: tuple[Arg, ...]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]
    after: tuple[int, ...]
    carries: tuple[int, ...] = ()  # Uploads that its kernel moves (`inline`)


@dataclass(frozen=True, slots=True)
class Move:
    """Compute lane: a kernel that moves one chunk and computes nothing (`inline`)."""

    id: int
    layer: int  # the one that needs it
    name: str  # of the weight
    kernel: int
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]
    once: bool
    after: tuple[int, ...]
    carries: tuple[int, ...]  # one Upload

    @property
    def args(self) -> tuple[Arg, ...]:
        """None of its own."""
        return ()


@dataclass(frozen=True, slots=True)
class HostStep:
    """Compute lane: a node evaluated on the host, or table rows read from the packed file."""

    id: int
    layer: int
    name: str
    work: HostCall | RowFetch
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WriteInput:
    """Compute lane: the user's array into its buffer, before the first layer that reads it."""

    id: int
    layer: int
    name: str
    view: View
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadOutput:
    """Compute lane: an output to host memory, right after the layer that writes it last."""

    id: int
    layer: int
    name: str
    view: View
    after: tuple[int, ...]


ComputeCommand = Launch | Move | HostStep | WriteInput | ReadOutput
MemoryCommand = Alloc | Free


@dataclass(frozen=True, slots=True)
class KernelSource:
    """Rendered OpenCL C with common.h inlined, and the kernel's name in it."""

    entry: str
    source: str


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a layer asks of a device, so that a program can be simulated without its model.

    Attributes:
        op_class: elemental, reusable or hierarchical.
        flops: floating point operations.
        bytes: read and written by it.
        kind: what runs (`Layer.kind`).
    """

    op_class: str
    flops: int
    bytes: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """All that a runtime needs, and nothing it must decide.

    Attributes:
        model, fingerprint, precision, device, strategy: carried along for traces and refusals.
        budget_bytes: enforced by the allocator.
        transport, staging_bytes, slot_bytes: staging ring of staging_bytes // slot_bytes slots
            (both 0 for `map`); a slot holds the largest chunk.
        objects: what Alloc and Free name.
        spans: every packed weight (device objects and host tables) in the weight files.
        weights_key: content key of the packed weight file, or of all of them.
        memory, disk, transfer, compute: the lanes.
        kernels: distinct sources.
        layers: names by index; for traces.
        inputs, outputs: the user's ports.
        predicted_peak_bytes: the highest prefix sum of the memory lane, with staging.
        costs: of each layer; empty where they are not known.
    """

    model: str
    fingerprint: str
    precision: str
    device: str
    strategy: str
    budget_bytes: int
    transport: Transport
    staging_bytes: int
    slot_bytes: int
    barrier: bool
    objects: Mapping[str, DeviceObject]
    spans: Mapping[str, PackedSpan]
    weights_key: str
    memory: tuple[MemoryCommand, ...]
    disk: tuple[Read, ...]
    transfer: tuple[Upload, ...]
    compute: tuple[ComputeCommand, ...]
    kernels: tuple[KernelSource, ...]
    layers: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    predicted_peak_bytes: int
    costs: tuple[LayerCost, ...] = ()
