"""OpenCL's error codes in words, in one place: what failed, and what the user can do next."""

from __future__ import annotations

from types import TracebackType

import pyopencl as cl

from flashmem_lab.errors import DeviceError

_MEMORY = "lower --budget, or close other programs that use the device"
_GROUPS = "plan anew for this device; its work-groups are smaller"
_DAMAGED = "the program or bundle is damaged; make it anew"
_LOST = "run `flashmem-lab doctor`; the device may have been reset by its driver"
_HINTS: dict[int, str] = {
    cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE: _MEMORY,
    cl.status_code.OUT_OF_RESOURCES: _MEMORY,
    cl.status_code.OUT_OF_HOST_MEMORY: _MEMORY,
    cl.status_code.INVALID_BUFFER_SIZE: "plan anew for this device; an object exceeds its limits",
    cl.status_code.INVALID_IMAGE_SIZE: "plan anew for this device; an image exceeds its limits",
    cl.status_code.IMAGE_FORMAT_NOT_SUPPORTED: "use --storage buffer, or --precision fp32",
    cl.status_code.INVALID_OPERATION: "use --storage buffer; the device may have no images",
    cl.status_code.INVALID_WORK_GROUP_SIZE: _GROUPS,
    cl.status_code.INVALID_WORK_ITEM_SIZE: _GROUPS,
    cl.status_code.INVALID_KERNEL_NAME: _DAMAGED,
    cl.status_code.INVALID_KERNEL_ARGS: _DAMAGED,
    cl.status_code.INVALID_ARG_INDEX: _DAMAGED,
    cl.status_code.INVALID_ARG_SIZE: _DAMAGED,
    cl.status_code.INVALID_ARG_VALUE: _DAMAGED,
    cl.status_code.INVALID_VALUE: _DAMAGED,
    cl.status_code.COMPILER_NOT_AVAILABLE: "install a full OpenCL driver, such as pocl-opencl-icd",
    cl.status_code.DEVICE_NOT_AVAILABLE: _LOST,
    cl.status_code.INVALID_COMMAND_QUEUE: _LOST,
}
_LOG_LINES = 6


def explain(error: cl.Error, doing: str) -> DeviceError:
    """The vendor's error as ours; `doing` says what was tried ("creating image 'w'")."""
    what = str(error).removeprefix(f"{error.routine} failed: ").strip()
    message = f"the device failed while {doing}: {what} ({error.routine})"
    return DeviceError(message, hint=_HINTS.get(error.code, _LOST))


def explain_build(error: cl.Error, entry: str) -> DeviceError:
    """A compiler's refusal, with the first lines of its log that say something."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    log = "\n  ".join(telling[:_LOG_LINES])
    return DeviceError(
        f"the device's compiler refused kernel {entry!r}:\n  {log}",
        hint="run `flashmem-lab doctor`: it says whether the OpenCL compiler works at all",
    )


class translating:  # noqa: N801 - reads as a statement: `with translating("..."):`
    """Context in which every cl.Error leaves as a DeviceError.

    A class, not a generator: it stands around every launch and costs a tenth of one.

    Args:
        doing: what is tried, for the message.
    """

    __slots__ = ("doing",)

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, cl.Error):
            raise explain(error, self.doing) from error
