"""Whether launches that are the same in every run are enqueued one by one or replayed together."""

from __future__ import annotations

from enum import StrEnum

from flashmem_lab.device.spec import DeviceSpec

_WORTH_NS = 2_000
"""What recording must save of a launch, besides half of it, for traces to lose the times of each.

A network's launches one after another swing by as much on a machine that others use.
"""


class Launching(StrEnum):
    """How stretches of such launches are handed to the device.

    One by one, the device tells when each of them ran. Recorded in command buffers, it tells when a
    stretch of them did.
    """

    AUTO = "auto"  # recorded where `profile` measured on this device that it saves enough
    SINGLE = "single"
    RECORDED = "recorded"  # from the third run on, where the driver has cl_khr_command_buffer


def records(asked: Launching, device: DeviceSpec) -> bool:
    """Whether launches are recorded."""
    if asked is not Launching.AUTO:
        return asked is Launching.RECORDED
    single_ns, replayed_ns = device.launch_ns.value, device.host.replayed_ns.value
    return replayed_ns > 0 and single_ns - replayed_ns > max(_WORTH_NS, single_ns / 2)
