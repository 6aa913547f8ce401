"""DeviceSpec: what the planner knows of a device; every number carries its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flashmem_lab.device.tuning import Tuning


class Transport(StrEnum):
    """How a weight's bytes reach their texture; chosen by measurement."""

    COPY = "copy"  # pinned staging ring, then an image upload on a second queue
    MAP = "map"  # read from disk straight into the mapped image
    INLINE = "inline"  # moved by rewritten compute kernels while they compute


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its source: "query", "datasheet ...", "measured ..."."""

    value: float
    source: str


WITH_FUNCTION = ", function"
"""What kinds end with whose kernels evaluate erf, tanh, exp or the like for each element."""

UNDISTURBED = Quantity(0.0, "assumed: lanes that share nothing")
"""Of a device whose contention nobody stated."""


NO_TIME = Quantity(0.0, "assumed: nothing")
"""Of what nobody stated for a device."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How weights come from the disk, and what that takes from the layers meanwhile.

    Attributes:
        disk: bytes/s from file to host memory.
        contention: share by which kernels and uploads take longer while the disk reads.
        weight_ns: time of each weight besides, however small it is, where reads land in place
            (`map`): until the thread that reads is told of it and has told of the end, ns.
    """

    disk: Quantity
    contention: Quantity
    weight_ns: Quantity = NO_TIME


@dataclass(frozen=True, slots=True)
class HostTimes:
    """What runs take of the host besides what moves and what computes.

    Predictions have it, and greedy plans for later runs are chosen by it (`plan.told`).

    Attributes:
        first_start_ns: of a first run, before its first layer begins and after its last one, ns.
        first_layer_ns: of a first run, for each layer that loads no weights: its kernel and its
            arguments are made ready, ns.
        first_touch_ns: of a first run, for each byte of activations in memory that nothing has
            touched before, ns.
        start_ns: as `first_start_ns`, of later runs, ns.
        streamed_ns: by how much each streamed weight holds up the layers of a run, however small
            it is: it is made, launched with as a new argument, and given back, ns.
        crowded_ns: by how much each layer takes longer where activations have no room at once, so
            that the host makes, waits for and frees each of them in every run, ns.
        replayed_ns: what a launch adds to its kernel's own time where it is recorded with others
            and replayed, as `DeviceSpec.launch_ns` where it is not; 0 where nobody measured it or
            the device cannot record. It chooses between the two; predictions do without it, ns.
    """

    first_start_ns: Quantity = NO_TIME
    first_layer_ns: Quantity = NO_TIME
    first_touch_ns: Quantity = NO_TIME
    start_ns: Quantity = NO_TIME
    streamed_ns: Quantity = NO_TIME
    crowded_ns: Quantity = NO_TIME
    replayed_ns: Quantity = NO_TIME


NO_HOST = HostTimes()
"""Of a device where nobody stated it, and where kernels move the weights (`inline`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of the OpenCL device, from its own queries.

    Attributes:
        image_width, image_height: largest image2d, texels.
        max_alloc: largest single object, bytes.
        global_memory: bytes.
        local_memory: bytes of a work-group.
        max_work_group: work-items.
        images: False where the device has no image support.
        half_arithmetic: True where kernels may compute in half precision (`cl_khr_fp16`).
    """

    image_width: int
    image_height: int
    max_alloc: int
    global_memory: int
    local_memory: int
    max_work_group: int
    images: bool = True
    half_arithmetic: bool = False


@dataclass(frozen=True, slots=True)
class KindCost:
    """Time of one kind of kernel on a device, fitted to measured launches.

    Attributes:
        fixed_ns: of a launch, whatever its size.
        ns_per_flop: its arithmetic; one of this and the next is 0, by operator class.
        ns_per_byte: activations and weights read and written.
        error: mean relative error over the launches that it was fitted to.
        source: what was measured, and when.
    """

    fixed_ns: float
    ns_per_flop: float
    ns_per_byte: float
    error: float
    source: str


def carrying_ns(own_ns: float, slack: float, rate: float, size: int) -> float:
    """Time of a kernel that also moves `size` bytes (`inline`), ns.

    Within its load capacity, own time x (1 + slack) x rate, the bytes pass beside what it computes,
    and it takes longer in proportion, by its slack when that is reached. Every byte beyond costs
    its full time; so do all of a kernel that hides nothing.

    Args:
        own_ns: of the kernel alone.
        slack: share of its time that loading may add, of its operator class.
        rate: bytes/s of a move.
        size: bytes.
    """
    hidden = min(float(size), own_ns * (1 + slack) * rate / 1e9) if slack else 0.0
    return own_ns + (hidden * slack / (1 + slack) + size - hidden) / rate * 1e9


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device as the planner sees it.

    Attributes:
        id: "ocl:0", "adb:SERIAL" or "sim:adreno750".
        name, driver: as the device reports them.
        kind: "cpu", "gpu" or "accelerator".
        limits: hard limits.
        disk: bytes/s from file to host memory, large sequential reads.
        upload: bytes/s from host memory into an image (for `map`: of the read's copy).
        memory: bytes/s of kernels that stream activations.
        compute: FLOP/s reached, by operator class value ("reusable", ...).
        launch_ns: cost of one kernel launch, ns.
        slack: share of a layer's time that extra loading may add, by operator class value.
        transport: preferred transport.
        work_group: work-items for kernels without tiles of their own (1 suits CPUs).
        kinds: times by kind of kernel ("conv", "normalise", ...), from a profile of the device.
        tuning: the fastest tiles by size of product, from a profile of the device.
        contention: share by which kernels and uploads take longer while the disk reads: what it
            brings is written, moved and read in the memory, or by the cores, that they work with.
        first_run: disk and contention of a first run, if they are others: memory that was never
            touched costs whoever touches it first. None where it makes no difference.
        first_launch_ns: what the host takes in a first run for a layer that loads weights, its
            objects and arguments included; layers start no earlier than it is done with them, ns.
        host: what runs take of the host besides.
    """

    id: str
    name: str
    driver: str
    kind: str
    limits: Limits
    disk: Quantity
    upload: Quantity
    memory: Quantity
    compute: Mapping[str, Quantity]
    launch_ns: Quantity
    slack: Mapping[str, Quantity]
    transport: Transport
    work_group: int
    kinds: Mapping[str, KindCost] = field(default_factory=dict)
    tuning: Tuning = field(default_factory=Tuning)
    contention: Quantity = UNDISTURBED
    first_run: Reading | None = None
    first_launch_ns: Quantity = NO_TIME
    host: HostTimes = NO_HOST

    def reading(self, *, cold: bool, transport: Transport) -> Reading:
        """How weights are read in a first run, or in later ones.

        Where a GPU's later runs read otherwise than its first ones, they copy weights from pinned
        host memory; other transports than `copy` read the files in every run.
        """
        files = cold or (self.kind != "cpu" and transport is not Transport.COPY)
        if files and self.first_run is not None:
            return self.first_run
        return Reading(self.disk, self.contention)

    def layer_ns(self, op_class: str, kind: str, flops: int, traffic: int) -> float:
        """Time of a layer that nothing disturbs, ns.

        As measured for its kind, or for the kind without a function; where that is not known, the
        slower of its arithmetic and its memory traffic (roofline), and one launch.

        Args:
            op_class: operator class value.
            kind: Layer.kind.
            flops: floating point operations.
            traffic: bytes read and written.
        """
        cost = self.kinds.get(kind) or self.kinds.get(kind.removesuffix(WITH_FUNCTION))
        if cost is None:
            seconds = max(flops / self.compute[op_class].value, traffic / self.memory.value)
            return seconds * 1e9 + self.launch_ns.value
        own = cost.fixed_ns + cost.ns_per_flop * flops + cost.ns_per_byte * traffic
        return own + self.launch_ns.value
