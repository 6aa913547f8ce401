"""What the device holds of a program, by name: what everything else here asks of it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Protocol

import pyopencl as cl

from flashmem_lab.program.program import DeviceObject

_CHANNELS = {"float32": cl.channel_type.FLOAT, "float16": cl.channel_type.HALF_FLOAT}

DeviceMemory = cl.Buffer | cl.Image


class DeviceObjects(Protocol):
    """The objects that exist now: as blocks of their own (`BlockObjects`) or all in `OneBuffer`."""

    @property
    def lasting(self) -> Container[str]:
        """Names of the activations that are there from run to run; nothing waits for their ends."""

    @property
    def fixed(self) -> Container[str]:
        """Names of the objects that come and go, but to the same memory in every run."""

    @property
    def to_lay(self) -> int:
        """Bytes that activations may still take, if nothing of theirs is given back."""

    def __getitem__(self, name: str) -> DeviceMemory:
        """What a kernel is given for a live object."""

    def always(self, name: str) -> DeviceMemory:
        """What it is given in every run for an object that stays or is `fixed`, live or not."""

    def begin(self, name: str) -> int:
        """The byte at which it begins there."""

    def target(self, name: str) -> tuple[DeviceMemory, int]:
        """Where a live object is written from outside, and the byte at which it begins there."""

    def buffer(self, name: str) -> cl.Buffer:
        """The buffer in which a live activation lies, from `begin` on."""

    def used(self, name: str) -> list[cl.Event]:
        """What must be over before another queue than the compute queue writes to `name`."""

    def begin_run(self) -> None:
        """Makes what stays from run to run, before the first; called before every run.

        Raises:
            OutOfBudget: it would break the budget.
            DeviceError: the device refused.
        """

    def create(self, wanted: DeviceObject) -> None:
        """Makes an object, waiting for room if need be.

        Raises:
            As `begin_run`.
        """

    def try_create(self, wanted: DeviceObject, beside: int = 0) -> bool:
        """As `create`, if that needs no waiting; whether it was done.

        Args:
            wanted: what to make.
            beside: bytes of room to leave.
        """

    def end(self, name: str, used: Iterable[cl.Event]) -> None:
        """Ends an object; `used` are the last commands that use it."""

    def release_all(self) -> None:
        """Releases whatever is left; no command may be running."""


def texel_format(item: DeviceObject) -> cl.ImageFormat:
    """The texels of an image."""
    return cl.ImageFormat(cl.channel_order.RGBA, _CHANNELS[item.dtype])
