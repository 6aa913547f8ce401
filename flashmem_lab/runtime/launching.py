"""Whether launches that are the same in every run are enqueued one by one or replayed together."""

from __future__ import annotations

from enum import StrEnum

from flashmem_lab.device.spec import DeviceSpec


class Launching(StrEnum):
    """How stretches of such launches are handed to the device.

    One by one, the device tells when each of them ran. Recorded in command buffers, it tells when a
    stretch of them did.
    """

    AUTO = "auto"  # as was measured to take less time: by `profile` on this device, else one by one
    SINGLE = "single"
    RECORDED = "recorded"  # from the third run on, where the driver has cl_khr_command_buffer


def records(asked: Launching, device: DeviceSpec) -> bool:
    """Whether launches are recorded."""
    if asked is not Launching.AUTO:
        return asked is Launching.RECORDED
    return 0 < device.host.replayed_ns.value < device.launch_ns.value
