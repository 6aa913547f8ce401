"""Which OpenCL devices there are, what they allow, and whether they really work."""

from __future__ import annotations

import numpy as np
import pyopencl as cl

from flashmem_lab.device import DeviceSpec, Limits, default_rates
from flashmem_lab.errors import DeviceError, UsageError
from flashmem_lab.program.program import KernelSource
from flashmem_lab.runtime.opencl.affinity import pin_workers
from flashmem_lab.runtime.opencl.errors import explain, translating
from flashmem_lab.runtime.opencl.kernels import Kernels
from flashmem_lab.runtime.opencl.pinned import gives_host_memory

_PREFIX = "ocl:"
_NO_PLATFORM = -1001  # CL_PLATFORM_NOT_FOUND_KHR of the ICD loader
_KINDS = (  # in the order in which ids are given
    (cl.device_type.GPU, "gpu"),
    (cl.device_type.ACCELERATOR, "accelerator"),
    (cl.device_type.CPU, "cpu"),
)
_PROBE = """
__constant sampler_t S = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE
                       | CLK_FILTER_NEAREST;
__kernel void probe(__read_only image2d_t texels, __global float4* out) {
  const int x = get_global_id(0);
  out[x] = read_imagef(texels, S, (int2)(x, 0)) + 1.0f;
}
"""
_PROBE_TEXELS = 4


def list_devices() -> list[DeviceSpec]:
    """Every OpenCL device, GPUs first; ids count them in an order that the drivers do not set.

    Raises:
        DeviceError: the OpenCL loader itself fails.
    """
    return [spec_of(f"{_PREFIX}{at}", device) for at, device in enumerate(_devices())]


def find(device_id: str) -> cl.Device:
    """The device of an id.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    devices = _devices()
    ids = [f"{_PREFIX}{at}" for at in range(len(devices))]
    if device_id not in ids:
        raise UsageError(
            f"there is no OpenCL device {device_id!r}; found: {', '.join(ids) or 'none'}",
            hint="`flashmem-lab devices` lists them; `flashmem-lab doctor` says what is missing",
        )
    return devices[ids.index(device_id)]


def working(device_id: str) -> str:
    """What is wrong with a device, or "" if it compiles and runs a kernel that reads an image.

    A driver may list a device and yet not compile for it, so this does the thing itself.
    """
    try:
        device = find(device_id)
        if not device.image_support:
            return "the device has no images; plan with --storage buffer"
        return _probe(device)
    except (DeviceError, UsageError) as error:
        return error.message
    except cl.Error as error:
        return explain(error, "running a first kernel").message


def spec_of(device_id: str, device: cl.Device) -> DeviceSpec:
    """A DeviceSpec of queried limits and the measured rates of a device of its kind."""
    with translating("querying the device"):
        kind = next((name for flag, name in _KINDS if device.type & flag), "cpu")
        images = bool(device.image_support)
        limits = Limits(
            image_width=int(device.image2d_max_width) if images else 0,
            image_height=int(device.image2d_max_height) if images else 0,
            max_alloc=int(device.max_mem_alloc_size),
            global_memory=int(device.global_mem_size),
            local_memory=int(device.local_mem_size),
            max_work_group=int(device.max_work_group_size),
            images=images,
            half_arithmetic="cl_khr_fp16" in device.extensions.split(),
        )
        name = " ".join(str(device.name).split())
        driver = f"{device.platform.name.strip()} {str(device.driver_version).strip()}"
        rates = default_rates(kind, keeps=gives_host_memory(device))
    return rates.spec(device_id, name=name, driver=driver, kind=kind, limits=limits)


def _devices() -> list[cl.Device]:
    pin_workers()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        if error.code == _NO_PLATFORM:
            return []
        raise explain(error, "listing OpenCL platforms") from error
    devices: list[cl.Device] = []
    for platform in platforms:
        try:
            devices += platform.get_devices()
        except cl.Error as error:
            if error.code != cl.status_code.DEVICE_NOT_FOUND:
                raise explain(error, f"listing devices of {platform.name}") from error
    return sorted(devices, key=_rank)


def _rank(device: cl.Device) -> tuple[int, str, str]:
    """GPUs first, then by platform and name: the loader's own order is that of a folder."""
    kinds = [at for at, (flag, _) in enumerate(_KINDS) if device.type & flag]
    return (min(kinds, default=len(_KINDS)), device.platform.name, device.name)


def _probe(device: cl.Device) -> str:
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    kernel, *_ = Kernels(context, device).build([KernelSource("probe", _PROBE)])
    texels = np.arange(_PROBE_TEXELS * 4, dtype=np.float32)
    pixel = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
    image = cl.create_image(context, cl.mem_flags.READ_ONLY, pixel, shape=(_PROBE_TEXELS, 1))
    cl.enqueue_copy(queue, image, texels, origin=(0, 0), region=(_PROBE_TEXELS, 1))
    out = cl.Buffer(context, cl.mem_flags.READ_WRITE, texels.nbytes)
    kernel.set_args(image, out)
    cl.enqueue_nd_range_kernel(queue, kernel, (_PROBE_TEXELS,), None)
    result = np.empty_like(texels)
    cl.enqueue_copy(queue, result, out)
    return "" if np.array_equal(result, texels + 1) else "it computes wrong values from images"
