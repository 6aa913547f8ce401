"""The Layer values: kernels, strided views, packed weights and costs, ready to be planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

from flashmem_lab.graph.model import WeightRef


class OperatorClass(StrEnum):
    """How much extra load an operator hides (FlashMem paper, load capacity)."""

    ELEMENTAL = "elemental"
    REUSABLE = "reusable"
    HIERARCHICAL = "hierarchical"


class Precision(StrEnum):
    """Element type in which weights are stored on the device; activations are float32.

    GPUs with half arithmetic multiply half weights in it (docs/speed.md).
    """

    FP32 = "fp32"
    FP16 = "fp16"


class Storage(StrEnum):
    """What holds a weight; rows of a `HOST` table are read from disk, never on the device."""

    IMAGE2D = "image2d"
    BUFFER = "buffer"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class View:
    """A strided window on a device object.

    Attributes:
        ref: name of an activation buffer or of a weight held in a buffer.
        dtype: NumPy name of the element type.
        offset: first element, counted in elements.
        shape: extent of each dimension.
        strides: elements between neighbours along each dimension (0 broadcasts).
    """

    ref: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


BLOCK_BYTES = 256 * 1024
"""Packed weights are checksummed, and cut into chunks, in blocks of about this size."""

# --- weights -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One NumPy transform on the way from stored bytes to device layout.

    `op` and `args`: ("reshape", shape) ("permute", axes) ("slice", (axis, start, stop, step))
    ("take", (axis, *indices)) ("cast", (dtype,)) ("scale", (axis, constant name))
    ("pad", (axis, size)); the last grows an axis to `size` with zeros.
    """

    op: str
    args: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a packed weight is made: read `source` (or `constant`), apply `steps` in order.

    Attributes:
        source: bytes in the model's files, or None for a folded constant.
        constant: name in `LoweredModel.constants`, or "".
        steps: transforms; the result is contiguous and row-major.
    """

    source: WeightRef | None
    constant: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """One packed weight as the device sees it.

    Attributes:
        name: unique; what users pin and force by (`--preload NAME`).
        storage: image2d (RGBA texels), buffer (elements) or host (rows read on demand).
        dtype: float32 or float16 for images; any NumPy name for buffers.
        width, height: texels of an image; for host tables: elements a row, rows; else length, 1.
        recipe: how to make it from the model's files.
        origin: name of the ONNX initializer that it is made from, for people.
    """

    name: str
    storage: Storage
    dtype: str
    width: int
    height: int
    recipe: Recipe
    origin: str = ""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in the packed file and in the object (rows are tight)."""
        itemsize = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "bool": 1, "uint8": 1}
        channels = 4 if self.storage is Storage.IMAGE2D else 1
        return self.width * channels * itemsize[self.dtype]

    @property
    def packed_bytes(self) -> int:
        """Bytes in the packed file."""
        return self.row_bytes * self.height

    @property
    def device_bytes(self) -> int:
        """Bytes held on the device while resident; none for a host table."""
        return 0 if self.storage is Storage.HOST else self.packed_bytes

    def blocks(self) -> list[tuple[int, int]]:
        """(first row, rows) of each checksummed block: whole rows, about BLOCK_BYTES."""
        step = max(1, BLOCK_BYTES // self.row_bytes)
        return [(row, min(step, self.height - row)) for row in range(0, self.height, step)]

    def chunks(self, chunk_bytes: int) -> list[tuple[int, int]]:
        """(first row, rows) of each chunk of a plan: whole blocks, at most about `chunk_bytes`."""
        step = max(1, BLOCK_BYTES // self.row_bytes) * max(1, chunk_bytes // BLOCK_BYTES)
        return [(row, min(step, self.height - row)) for row in range(0, self.height, step)]


# --- layers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arg:
    """One kernel argument: ("object", ref), ("int", value) or ("float", value)."""

    kind: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One launch of one template.

    Attributes:
        template: file in kernels/, such as "gemm.cl".
        params: template variables that shape the source (types, tiles, epilogue), sorted by name.
        args: kernel arguments in the order of the kernel's signature.
        global_size, local_size: work-items; local_size divides global_size in each dimension.
    """

    template: str
    params: tuple[tuple[str, object], ...]
    args: tuple[Arg, ...]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RowFetch:
    """Rows of a host table read from disk into an activation buffer (embedding of an input).

    Attributes:
        table: name of a weight with storage HOST.
        index: graph input that holds the row numbers (negative ones count from the end).
        output: contiguous view that receives index.shape + (row length,) float32.
    """

    table: str
    index: str
    output: View


@dataclass(frozen=True, slots=True)
class HostCall:
    """A node that no kernel covers, evaluated on the host.

    Attributes:
        model: serialised single-node ONNX model.
        inputs: value name in that model and the view to read.
        outputs: value name and the contiguous view to write.
        weights: value name, packed weight (storage HOST) read whole when it runs, and the element
            type and shape that the value has in that model.
    """

    model: bytes
    inputs: tuple[tuple[str, View], ...]
    outputs: tuple[tuple[str, View], ...]
    weights: tuple[tuple[str, str, str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one layer would be if a fused layer were split: adaptive fusion weighs these.

    Attributes:
        name: for people: its first source node.
        value: what it computes. Given to `lower(..., unfused={value})` it is written to memory, so
            that this part and the ones before it become one layer, those after it another.
        kind: of the kernel it would run: "gemm", "conv", "softmax", "map", ...
        op_class: of that kernel.
        flops: floating point operations; a multiply-add counts 2.
        bytes_read, bytes_written: activations and weights moved if the part ran alone.
        nodes: ONNX nodes it covers.
    """

    name: str
    value: str
    kind: str
    op_class: OperatorClass
    flops: int
    bytes_read: int
    bytes_written: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of execution.

    A fused layer names its parts in order, two or more. To split it after part i, lower the graph
    again with `unfused` grown by `parts[i].value`; the costs of both halves are known before:

        head, tail = layer.parts[: i + 1], layer.parts[i + 1 :]
        flops = sum(part.flops for part in head)
        op_class = the anchor's: of the first part that is not elemental, else elemental

    Two neighbours that stay together move less than the sum of their bytes: what `parts[i]` writes
    and `parts[i + 1]` reads passes in registers. All tiles of one operation have the same `value`s
    and are split together. A layer whose class is hierarchical has parts as well; whether to leave
    it whole, as the paper does, is the planner's choice.

    Attributes:
        index: position, from 0.
        name: for people: source node's name, with the tile where a layer was split.
        kind: what runs: "gemm", "conv", "strided conv", "softmax", "map", "host", "rows", ...; with
            `WITH_FUNCTION` behind it where that makes it slower.
        op_class: elemental, reusable or hierarchical.
        work: the launch, the host evaluation or the row fetch.
        reads, writes: activation buffers touched.
        weights: packed weights with device bytes that must be resident.
        flops: floating point operations of the anchor, or of all maps where there is no anchor; a
            multiply-add counts 2.
        bytes_read, bytes_written: activation and weight bytes moved by the kernel.
        nodes: names of the ONNX nodes it covers, anchor first.
        parts: what it was fused of, in order; empty where there is nothing to split.
    """

    index: int
    name: str
    kind: str
    op_class: OperatorClass
    work: KernelCall | HostCall | RowFetch
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    weights: tuple[str, ...]
    flops: int
    bytes_read: int
    bytes_written: int
    nodes: tuple[str, ...]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A graph input or output: the user's dtype and shape, and where it lies on the device.

    `view` is None for an input that only the host reads (indices of a row fetch).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    view: View | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A layer that only moves elements.

    Attributes:
        layer: its index.
        name: its first source node.
        bytes: written.
        reason: why it could not be folded into what is before or after it.
    """

    layer: int
    name: str
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What became of the nodes that only move elements (Reshape, Transpose, Slice, Concat, ...).

    Attributes:
        nodes: how many the graph has.
        free: how many of them cost nothing: views, index maps, weights packed in another order.
        copies: kernels that remain of the others.
    """

    nodes: int = 0
    free: int = 0
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class LoweredModel:
    """Everything the planner and the program builder need; plain values only.

    Attributes:
        name, fingerprint: of the Graph.
        precision: of the weights.
        layers: in execution order.
        buffers: bytes of every activation buffer, by name.
        weights: packed weights by name, in order of first use.
        constants: folded constants that recipes refer to: dtype, shape and raw bytes.
        inputs, outputs: the model's ports.
        eliminated: ONNX nodes that cost nothing (views, folds), by operator.
        layout: what became of nodes that only move elements.
        unfused: values kept in memory on request, sorted; fusions across them were not made.
    """

    name: str
    fingerprint: str
    precision: Precision
    layers: tuple[Layer, ...]
    buffers: Mapping[str, int]
    weights: Mapping[str, Weight]
    constants: Mapping[str, tuple[str, tuple[int, ...], bytes]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    eliminated: Mapping[str, int] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    unfused: tuple[str, ...] = ()

    def lifetimes(self) -> dict[str, tuple[int, int]]:
        """First and last layer that touch each activation buffer.

        An input is written just before its first reader, an output is read back right after its
        last writer, so neither outlives its use by layers.
        """
        spans: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            for buffer in (*layer.reads, *layer.writes):
                first = spans.get(buffer, (layer.index, 0))[0]
                spans[buffer] = (first, layer.index)
        return spans

    def weight_uses(self) -> dict[str, tuple[int, int]]:
        """First and last layer that use each weight held on the device."""
        spans: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            for weight in layer.weights:
                first = spans.get(weight, (layer.index, 0))[0]
                spans[weight] = (first, layer.index)
        return spans
