"""The command that measures a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flashmem_lab import workflow
from flashmem_lab.cli.console import print_json, print_table, progress_bars
from flashmem_lab.cli.parser import Options
from flashmem_lab.cli.targets import refuse_targets

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec, Reading


def profile(options: Options) -> int:
    """Measures a device; later plans and predictions for it use what was measured."""
    from flashmem_lab.device import Transport
    from flashmem_lab.profiles import SCHEMA, refuse_others_file, save_profile, stored_profile
    from flashmem_lab.profiling import profile_device
    from flashmem_lab.serial import to_plain

    refuse_targets(options)
    if options.output is not None:
        refuse_others_file(options.output)
    device = workflow.open_device(options.device or "auto")
    with progress_bars() as tell:
        measured = profile_device(device, progress=tell)
    paths = [stored_profile(measured)] + ([options.output] if options.output else [])
    for path in paths:
        save_profile(measured, path)
    if options.json:
        print_json({"schema": SCHEMA, **to_plain(measured)})
        return 0
    print_table(
        (
            (
                kind,
                f"{cost.fixed_ns / 1e3:.1f} us",
                f"{1 / cost.ns_per_flop:.1f}" if cost.ns_per_flop else "",
                f"{1 / cost.ns_per_byte:.1f}" if cost.ns_per_byte else "",
                f"{cost.error:.0%}",
            )
            for kind, cost in measured.kinds.items()
        ),
        columns=("kernel", "a launch", "GFLOP/s", "GB/s", "mean error"),
        title=f"{measured.id}, {measured.name}",
    )
    print_table(
        [
            ("from file", _by_run(measured, lambda one: f"{one.disk.value / 1e9:.2f} GB/s")),
            *(
                [("to the device", f"{measured.upload.value / 1e9:.2f} GB/s")]
                if measured.transport is Transport.COPY
                else []
            ),
            (
                "kernels while it reads",
                _by_run(measured, lambda one: f"{one.contention.value:.0%} slower"),
            ),
            *_host(measured),
            ("a launch", _launch(measured)),
            ("saved as", ", ".join(map(str, paths))),
        ]
    )
    return 0


def _launch(device: DeviceSpec) -> str:
    """What a launch takes beside its kernel, one by one and, where the device can, replayed."""
    single = f"{device.launch_ns.value / 1e3:.1f} us"
    replayed = device.host.replayed_ns.value
    return f"{single}, {replayed / 1e3:.1f} us replayed" if replayed else single


def _by_run(device: DeviceSpec, told: Callable[[Reading], str]) -> str:
    """Of later runs, and of a first one where that is another matter."""
    later = told(device.reading(cold=False, transport=device.transport))
    if device.first_run is None:
        return later
    return f"{later}, {told(device.first_run)} in a first run"


def _host(device: DeviceSpec) -> list[tuple[str, str]]:
    """What the host takes besides, where that was measured."""
    if device.first_run is None or not device.first_launch_ns.value:
        return []
    host = device.host
    first = (
        f"{host.first_start_ns.value / 1e6:.1f} ms to start, "
        f"{device.first_run.weight_ns.value / 1e3:.0f} us a weight, "
        f"{device.first_launch_ns.value / 1e3:.0f} us a layer that loads, "
        f"{host.first_layer_ns.value / 1e3:.0f} us another"
    )
    later = (
        f"{host.start_ns.value / 1e6:.1f} ms to start, "
        f"{host.streamed_ns.value / 1e3:.0f} us a streamed weight, "
        f"{host.crowded_ns.value / 1e3:.0f} us a layer without room for all activations"
    )
    return [("the host in a first run", first), ("in later runs", later)]
