"""The catalogue: every number sourced, every operator class covered, JSON and back."""

from __future__ import annotations

import json

import pytest

from flashmem_lab.device import DeviceSpec, Transport, default_rates, simulated_devices
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.serial import from_plain, to_plain

DEVICES = list(simulated_devices().values())


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.id)
def test_every_number_is_positive_and_names_its_source(device: DeviceSpec) -> None:
    quantities = [device.disk, device.upload, device.memory, device.launch_ns]
    quantities += device.compute.values()
    assert all(quantity.value > 0 for quantity in quantities)
    assert all(
        any(word in quantity.source for word in ("measured", "paper", "datasheet", "estimate"))
        for quantity in [*quantities, *device.slack.values(), device.contention]
    )


def test_on_one_memory_reads_take_their_passes_from_kernels() -> None:
    devices = simulated_devices()
    for name in ("sim:adreno750", "sim:mali-g715", "sim:videocore7"):
        device = devices[name]
        left = device.memory.value - 3 * device.disk.value  # written, read and written again
        assert device.memory.value / left == pytest.approx(1 + device.contention.value)
    assert devices["sim:h100"].contention.value < 0.001


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.id)
def test_every_operator_class_has_a_rate_and_a_slack(device: DeviceSpec) -> None:
    classes = {member.value for member in OperatorClass}
    assert set(device.compute) == classes
    assert set(device.slack) == classes
    assert device.slack["hierarchical"].value == 0


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.id)
def test_json_round_trip(device: DeviceSpec) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(device))), DeviceSpec) == device


def test_ids_are_keys_and_the_phone_has_the_papers_figures() -> None:
    devices = simulated_devices()
    assert all(device.id == name for name, device in devices.items())
    phone = devices["sim:adreno750"]
    assert (phone.disk.value, phone.memory.value) == (1.5e9, 65e9)


def test_defaults_of_a_device_found_here_follow_its_kind() -> None:
    limits = DEVICES[0].limits
    cpu = default_rates("cpu").spec("ocl:0", name="c", driver="d", kind="cpu", limits=limits)
    assert (cpu.transport, cpu.work_group) == (Transport.MAP, 1)
    assert default_rates("gpu").transport is Transport.COPY


@pytest.mark.parametrize("transport", list(Transport))
def test_only_copies_of_a_gpus_later_runs_leave_the_files_alone(transport: Transport) -> None:
    gpu, cpu = simulated_devices()["sim:h100"], simulated_devices()["sim:pocl"]
    first, later = (gpu.reading(cold=cold, transport=transport) for cold in (True, False))
    assert first == gpu.first_run
    assert (later == first) is (transport is not Transport.COPY)
    assert cpu.reading(cold=False, transport=transport).disk == cpu.disk
