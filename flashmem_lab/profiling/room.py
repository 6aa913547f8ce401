"""How much of a device the samples may take."""

from __future__ import annotations

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.lower import LoweredModel
from flashmem_lab.plan import bounds
from flashmem_lab.units import Budget

SHARE = 0.5
"""Of the device's memory: drivers and screens have things there too."""


def room(model: LoweredModel, device: DeviceSpec) -> Budget:
    """All weights of a sample model at once, or as many as a small device has room for."""
    least, full, _ = bounds(model, device)
    return Budget(bytes=max(least, min(full, int(SHARE * device.limits.global_memory))))
