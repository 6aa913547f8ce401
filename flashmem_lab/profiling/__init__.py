"""Measuring a device: what its lanes move a second, and what each kind of kernel takes."""

from flashmem_lab.profiling.profile import profile_device

__all__ = ["profile_device"]
