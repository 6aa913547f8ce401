"""Runs programs on OpenCL devices of this machine. No other folder knows pyopencl."""

from pathlib import Path

from flashmem_lab.runtime.opencl.query import list_devices, working
from flashmem_lab.runtime.opencl.runtime import OpenCLRuntime
from flashmem_lab.runtime.pagecache import PageCache

__all__ = ["OpenCLRuntime", "list_devices", "open_runtime", "working"]


def open_runtime(
    device_id: str,
    binaries: Path | None = None,
    pages: PageCache = PageCache.AUTO,
    *,
    recorded: bool = False,
) -> OpenCLRuntime:
    """Opens a device; close the runtime when done, or use it in a `with`.

    Args:
        device_id: such as "ocl:0".
        binaries: folder where compiled kernels are kept, if anywhere.
        pages: what becomes of the pages of weight files that were read.
        recorded: whether launches that do not change are recorded and replayed.

    Raises:
        UsageError: there is no such device.
        DeviceError: it cannot be opened.
    """
    return OpenCLRuntime(device_id, binaries, pages, recorded=recorded)
