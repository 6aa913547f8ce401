"""Known devices to plan for without having them, and first rates for a device just found.

Only devices whose numbers have a source are here. PAPER below is FlashMem, arXiv 2602.15379.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flashmem_lab.device.spec import DeviceSpec, Limits, Quantity, Transport

_PAPER = "FlashMem paper, OnePlus 12"
_POCL = "measured 2026-11, PoCL 3.1 on 2 cores of an AMD EPYC"
_H100 = "measured 2026-11, NVIDIA H100 80GB, driver 580"

# How much longer a layer may take to hide a load, relative to its own time, by operator class.
_SLACK: Mapping[str, Quantity] = {
    "hierarchical": Quantity(0.0, "FlashMem paper, load capacity"),
    "reusable": Quantity(0.2, "FlashMem paper, load capacity"),
    "elemental": Quantity(3.0, "FlashMem paper, load capacity"),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does a second: the part of a DeviceSpec that no query tells.

    The attributes are those of `DeviceSpec`.
    """

    disk: Quantity
    upload: Quantity
    memory: Quantity
    compute: Mapping[str, Quantity]
    launch_ns: Quantity
    slack: Mapping[str, Quantity]
    transport: Transport
    work_group: int

    def spec(self, id_: str, *, name: str, driver: str, kind: str, limits: Limits) -> DeviceSpec:
        """The whole DeviceSpec of a device with these rates."""
        return DeviceSpec(
            id=id_,
            name=name,
            driver=driver,
            kind=kind,
            limits=limits,
            disk=self.disk,
            upload=self.upload,
            memory=self.memory,
            compute=self.compute,
            launch_ns=self.launch_ns,
            slack=self.slack,
            transport=self.transport,
            work_group=self.work_group,
        )


def _all_classes(value: float, source: str) -> dict[str, Quantity]:
    """One rate for every class: the others' layers are bound by memory, not by arithmetic."""
    return {name: Quantity(value, source) for name in _SLACK}


# Layers and MACs against SmartMem's execution times of ten models, least squares of the relative
# error: time = 22 us x layers + 2 x MACs / 581 GFLOP/s (fp16), within a factor 0.5 to 1.24.
_ADRENO_750 = Rates(
    disk=Quantity(1.5e9, f"{_PAPER}: UFS"),
    upload=Quantity(65e9, f"{_PAPER}: unified memory, read by the GPU on the way to texture"),
    memory=Quantity(65e9, f"{_PAPER}: unified memory, where activation buffers lie"),
    compute=_all_classes(581e9, f"{_PAPER}: fitted to SmartMem's execution times, fp16"),
    launch_ns=Quantity(22e3, f"{_PAPER}: fitted to SmartMem's execution times"),
    slack=_SLACK,
    transport=Transport.COPY,
    work_group=64,
)
_CPU = Rates(
    disk=Quantity(1.2e9, f"{_POCL}: direct sequential reads, 1.0 to 1.9 GB/s"),
    upload=Quantity(9.8e9, f"{_POCL}: sequential reads from the page cache"),
    memory=Quantity(41e9, f"{_POCL}: streaming kernel, 128 MiB read and written"),
    compute={
        "reusable": Quantity(22e9, f"{_POCL}: ViT, GPT-Neo-Small and ResNet50, 20 to 24 GFLOP/s"),
        "hierarchical": Quantity(1e9, f"{_POCL}: softmax 0.6, normalisation 2.3 GFLOP/s in ViT"),
        "elemental": Quantity(5e9, f"{_POCL}: element-wise layers of PP-OCR"),
    },
    launch_ns=Quantity(6e3, f"{_POCL}: empty kernel, 2 to 14 us"),
    slack=_SLACK,
    transport=Transport.MAP,
    work_group=1,
)
_GPU = Rates(
    disk=Quantity(1.4e9, f"{_H100}: direct sequential reads, 1.1 to 1.8 GB/s"),
    upload=Quantity(54e9, f"{_H100}: pinned host memory into an image"),
    memory=Quantity(3.35e12, "datasheet NVIDIA H100 SXM: HBM3"),
    compute=_all_classes(22e12, f"{_H100}: fp32 GEMM 1024x4096x4096, naive image kernel"),
    launch_ns=Quantity(13e3, f"{_H100}: one launch"),
    slack=_SLACK,
    transport=Transport.COPY,
    work_group=64,
)


def default_rates(kind: str) -> Rates:
    """Rates to start from for a device found here, by `kind` ("cpu", "gpu" or "accelerator").

    They are those of the one measured device of the kind; every source says so. A profile of the
    device itself replaces them.
    """
    return _CPU if kind == "cpu" else _GPU


def simulated_devices() -> dict[str, DeviceSpec]:
    """Devices that can be planned for and simulated anywhere, by id."""
    devices = (
        _ADRENO_750.spec(
            "sim:adreno750",
            name="Adreno 750 (OnePlus 12)",
            driver="simulated",
            kind="gpu",
            # The least that OpenCL 3.0 allows a full-profile GPU (image size, local memory, a
            # quarter of global memory in one object); 16 GB is the phone's memory.
            limits=Limits(
                image_width=16384,
                image_height=16384,
                max_alloc=4_000_000_000,
                global_memory=16_000_000_000,
                local_memory=32 * 1024,
                max_work_group=1024,
            ),
        ),
        _CPU.spec(
            "sim:pocl",
            name="PoCL 3.1, 2 CPU cores",
            driver="simulated",
            kind="cpu",
            # As the device answered, 2026-11.
            limits=Limits(
                image_width=8192,
                image_height=8192,
                max_alloc=2_147_483_648,
                global_memory=7_610_789_888,
                local_memory=1_048_576,
                max_work_group=4096,
            ),
        ),
        _GPU.spec(
            "sim:h100",
            name="NVIDIA H100 80GB",
            driver="simulated",
            kind="gpu",
            # Image, allocation and local memory as the device answered, 2026-11; memory size and
            # work-group limit from NVIDIA's data sheet.
            limits=Limits(
                image_width=32768,
                image_height=32768,
                max_alloc=20_000_000_000,
                global_memory=80_000_000_000,
                local_memory=48 * 1024,
                max_work_group=1024,
            ),
        ),
    )
    return {device.id: device for device in devices}
