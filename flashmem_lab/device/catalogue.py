"""Known devices to plan for without having them, and first rates for a device just found.

Every number says where it comes from. PAPER below is FlashMem, arXiv 2602.15379. Where nobody has
measured, an "estimate" says from what: a plan for such a device is good for comparing, and its
milliseconds are worth as much as the estimate. `flashmem-lab profile` replaces all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from flashmem_lab.device.spec import (
    NO_HOST,
    NO_TIME,
    DeviceSpec,
    HostTimes,
    Limits,
    Quantity,
    Reading,
    Transport,
)

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
    contention: Quantity
    first_run: Reading | None = None
    first_launch_ns: Quantity = NO_TIME
    host: HostTimes = NO_HOST

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
            contention=self.contention,
            first_run=self.first_run,
            first_launch_ns=self.first_launch_ns,
            host=self.host,
        )


def _all_classes(value: float, source: str) -> dict[str, Quantity]:
    """One rate for every class: the others' layers are bound by memory, not by arithmetic."""
    return {name: Quantity(value, source) for name in _SLACK}


def _one_memory(disk: Quantity, memory: Quantity) -> Quantity:
    """Contention on a device with unified memory, for kernels that its bandwidth limits.

    What the disk brings is written to memory, read by the upload and written again: three passes,
    so that share of the bandwidth is gone for the time of the read.
    """
    passes = 3 * disk.value / memory.value
    return Quantity(
        passes / (1 - passes),
        "estimate from the rates of disk and memory: each byte passes the memory three times",
    )


# Layers and MACs against SmartMem's execution times of ten models, least squares of the relative
# error: time = 22 us x layers + 2 x MACs / 581 GFLOP/s (fp16), within a factor 0.5 to 1.24.
_UFS = Quantity(1.5e9, f"{_PAPER}: UFS")
_LPDDR = Quantity(65e9, f"{_PAPER}: unified memory, where activation buffers lie")
_ADRENO_750 = Rates(
    disk=_UFS,
    upload=Quantity(65e9, f"{_PAPER}: unified memory, read by the GPU on the way to texture"),
    memory=_LPDDR,
    compute=_all_classes(581e9, f"{_PAPER}: fitted to SmartMem's execution times, fp16"),
    launch_ns=Quantity(22e3, f"{_PAPER}: fitted to SmartMem's execution times"),
    slack=_SLACK,
    transport=Transport.COPY,
    work_group=64,
    contention=_one_memory(_UFS, _LPDDR),
)
# Share of the peak that the paper's phone reaches: 581 of about 5,500 GFLOP/s in fp16.
_REACHED = "times the 0.105 of its peak that the fit for the Adreno 750 reaches"


def _estimated(
    *,
    disk: Quantity,
    memory: Quantity,
    flops: float,
    flops_source: str,
    launch_us: float,
) -> Rates:
    """Rates of a device with unified memory that nobody measured for us.

    Args:
        disk: bytes/s.
        memory: bytes/s.
        flops: peak FLOP/s in fp16.
        flops_source: of that peak.
        launch_us: one launch.
    """
    return Rates(
        disk=disk,
        upload=Quantity(memory.value, f"{memory.source}; textures are filled from memory"),
        memory=memory,
        compute=_all_classes(flops * 0.105, f"estimate from {flops_source}, {_REACHED}"),
        launch_ns=Quantity(launch_us * 1e3, "estimate from the Adreno 750's 22 us and its clock"),
        slack=_SLACK,
        transport=Transport.COPY,
        work_group=64,
        contention=_one_memory(disk, memory),
    )


_ADRENO_740 = _estimated(
    disk=Quantity(1.5e9, f"estimate from the same storage (UFS 4.0) as in {_PAPER}"),
    memory=Quantity(67e9, "datasheet Snapdragon 8 Gen 2: LPDDR5X-8400, 64 bit"),
    flops=4.2e12,
    flops_source="the Adreno 750's peak and clocks of 680 against 903 MHz",
    launch_us=29,
)
_ADRENO_540 = _estimated(
    disk=Quantity(0.7e9, "estimate from UFS 2.1, sequential reads of phones of 2017"),
    memory=Quantity(29.8e9, "datasheet Snapdragon 835: LPDDR4X-1866, 2 x 32 bit"),
    flops=1.13e12,
    flops_source="567 GFLOP/s in fp32 (256 ALUs at 710 MHz, as published) and twice that in fp16",
    launch_us=60,
)
_MALI_G715 = _estimated(
    disk=Quantity(1.3e9, "estimate from UFS 3.1, 2.1 GB/s by its datasheet"),
    memory=Quantity(68e9, "estimate from LPDDR5X-8533, 64 bit"),
    flops=3.2e12,
    flops_source="7 cores of 128 fp32 FMA a clock at 890 MHz, and twice that in fp16",
    launch_us=40,
)
_VIDEOCORE_VII = _estimated(
    disk=Quantity(0.45e9, "datasheet Raspberry Pi 5: NVMe on PCIe 2.0 x1, 0.5 GB/s less protocol"),
    memory=Quantity(17e9, "datasheet Raspberry Pi 5: LPDDR4X-4267, 32 bit"),
    flops=0.0768e12,
    flops_source="about 77 GFLOP/s, as published; it has no faster fp16",
    launch_us=100,
)
_CPU = Rates(
    disk=Quantity(20e9, f"{_POCL}: weights made present in place by `profile`, 16 to 40 GB/s"),
    upload=Quantity(9.8e9, f"{_POCL}: sequential reads from the page cache"),
    memory=Quantity(10e9, f"{_POCL}: element-wise kernels, 7 to 14 GB/s by `profile`"),
    compute={
        "reusable": Quantity(
            120e9, f"{_POCL}: by `profile`, products 110 to 240, convolutions 110 to 240 GFLOP/s"
        ),
        "hierarchical": Quantity(4e9, f"{_POCL}: by `profile`, softmax and normalisation"),
        "elemental": Quantity(5e9, f"{_POCL}: element-wise layers of PP-OCR"),
    },
    launch_ns=Quantity(12e3, f"{_POCL}: beside a small kernel by `profile`, 9 to 16 us"),
    slack=_SLACK,
    transport=Transport.MAP,
    work_group=1,
    contention=Quantity(1.4, f"{_POCL}: products beside reads, by `profile`"),
    first_run=Reading(
        Quantity(3.9e9, f"{_POCL}: made present and checked by `profile`, 3.6 to 4.1 GB/s"),
        Quantity(0.9, f"{_POCL}: made present and checked by `profile`, 0.5 to 1.3"),
        Quantity(15e3, f"{_POCL}: small weights by `profile`, 12 to 18 us"),
    ),
    first_launch_ns=Quantity(250e3, f"{_POCL}: small layers by `profile`, 238 to 290 us"),
    host=HostTimes(
        first_start_ns=Quantity(2.1e6, f"{_POCL}: a small network by `profile`, 1.9 to 2.4 ms"),
        first_layer_ns=Quantity(230e3, f"{_POCL}: a small network by `profile`, 208 to 257 us"),
        first_touch_ns=Quantity(0.2, f"{_POCL}: a large sum by `profile`"),
        start_ns=Quantity(0.2e6, f"{_POCL}: a small network by `profile`, 0.1 to 0.3 ms"),
        streamed_ns=Quantity(32e3, f"{_POCL}: a small network by `profile`, 23 to 37 us"),
        crowded_ns=Quantity(45e3, f"{_POCL}: a small network by `profile`, 35 to 51 us"),
    ),
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
    contention=Quantity(
        0.0004, "estimate from the rates of disk and memory: a byte is written to it once"
    ),
)
_KEEPING_GPU = replace(
    _GPU,
    disk=Quantity(54e9, f"{_H100}: copies of what stays in pinned host memory behind a first run"),
    first_run=Reading(_GPU.disk, _GPU.contention),
    host=HostTimes(
        streamed_ns=Quantity(24e3, f"{_H100}: a copy handed over by the host"),
    ),
)


def default_rates(kind: str, *, keeps: bool = False) -> Rates:
    """Rates to start from for a device found here.

    They are those of the one measured device of the kind; every source says so. A profile of the
    device itself replaces them.

    Args:
        kind: "cpu", "gpu" or "accelerator".
        keeps: whether later runs copy weights from pinned host memory instead of reading them
            (`DeviceSpec.reading`); so they do with `copy`, and where pages of files are kept.
    """
    if kind == "cpu":
        return _CPU
    return _KEEPING_GPU if keeps else _GPU


_GPUS = (  # as drivers name themselves, "QUALCOMM Adreno(TM)" with the number in the version
    (re.compile(r"Adreno\D*750\b"), _ADRENO_750),
    (re.compile(r"Adreno\D*740\b"), _ADRENO_740),
    (re.compile(r"Adreno\D*540\b"), _ADRENO_540),
    (re.compile(r"Mali-G715\b"), _MALI_G715),
    (re.compile(r"VideoCore VII\b|V3D 7\b"), _VIDEOCORE_VII),
)


def known_rates(name: str, kind: str, words: str = "") -> Rates:
    """Rates to start from for a device behind adb.

    Those of the catalogue's device of that name. For another GPU those of the slowest phone in it,
    and every source says that they are another device's.

    Args:
        name: of the device, as it says itself.
        kind: "cpu", "gpu" or "accelerator".
        words: what its driver says besides; the number of an Adreno is only there.
    """
    if kind == "cpu":
        return _borrowed(_CPU, name, "a PoCL on two server cores")
    for pattern, rates in _GPUS:
        if pattern.search(f"{name} {words}"):
            return rates
    return _borrowed(_ADRENO_540, name, "an Adreno 540, the slowest phone of the catalogue")


def _borrowed(rates: Rates, name: str, owner: str) -> Rates:
    """The same rates with sources that say whose they are."""

    def said(one: Quantity) -> Quantity:
        return Quantity(one.value, f"nobody measured {name}: of {owner}, {one.source}")

    return replace(
        rates,
        disk=said(rates.disk),
        upload=said(rates.upload),
        memory=said(rates.memory),
        compute={op_class: said(one) for op_class, one in rates.compute.items()},
        launch_ns=said(rates.launch_ns),
        contention=said(rates.contention),
        first_run=rates.first_run
        and Reading(
            said(rates.first_run.disk),
            said(rates.first_run.contention),
            said(rates.first_run.weight_ns),
        ),
        first_launch_ns=said(rates.first_launch_ns),
        host=HostTimes(*(said(getattr(rates.host, field.name)) for field in fields(HostTimes))),
    )


def _phone(image: int, memory: int) -> Limits:
    """Limits of a phone's GPU: the largest image and the least that OpenCL 3.0 asks of the rest.

    Args:
        image: texels of the largest image in both directions.
        memory: the phone's memory, bytes; one object may have a quarter of it.
    """
    return Limits(
        image_width=image,
        image_height=image,
        max_alloc=memory // 4,
        global_memory=memory,
        local_memory=32 * 1024,
        max_work_group=1024,
    )


def simulated_devices() -> dict[str, DeviceSpec]:
    """Devices that can be planned for and simulated anywhere, by id."""
    phones = (
        ("sim:adreno750", "Adreno 750 (OnePlus 12)", _ADRENO_750, _phone(16384, 16_000_000_000)),
        ("sim:adreno740", "Adreno 740 (OnePlus 11)", _ADRENO_740, _phone(16384, 12_000_000_000)),
        ("sim:adreno540", "Adreno 540 (Xiaomi Mi 6)", _ADRENO_540, _phone(16384, 6_000_000_000)),
        ("sim:mali-g715", "Mali-G715 (Pixel 8)", _MALI_G715, _phone(16384, 8_000_000_000)),
        # 4096: V3D 7.1's largest 2D texture.
        (
            "sim:videocore7",
            "VideoCore VII (Raspberry Pi 5)",
            _VIDEOCORE_VII,
            _phone(4096, 8_000_000_000),
        ),
    )
    devices = (
        *(
            rates.spec(id_, name=name, driver="simulated", kind="gpu", limits=limits)
            for id_, name, rates, limits in phones
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
        _KEEPING_GPU.spec(
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
