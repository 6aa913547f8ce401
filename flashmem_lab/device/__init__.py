"""What is known of devices: DeviceSpec, and the catalogue of those with measured numbers."""

from flashmem_lab.device.catalogue import Rates, default_rates, known_rates, simulated_devices
from flashmem_lab.device.spec import (
    DeviceSpec,
    HostTimes,
    KindCost,
    Limits,
    Quantity,
    Reading,
    Transport,
)

__all__ = [
    "DeviceSpec",
    "HostTimes",
    "KindCost",
    "Limits",
    "Quantity",
    "Rates",
    "Reading",
    "Transport",
    "default_rates",
    "known_rates",
    "simulated_devices",
]
