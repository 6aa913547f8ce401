"""DeviceSpec: what the planner knows of a device; every number carries its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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
    """

    image_width: int
    image_height: int
    max_alloc: int
    global_memory: int
    local_memory: int
    max_work_group: int
    images: bool = True


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
