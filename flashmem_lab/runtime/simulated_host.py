"""What the host takes of a simulated run besides, found from the program's commands alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from flashmem_lab.device.spec import DeviceSpec, Transport
from flashmem_lab.plan.problem import behind_host
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import Alloc, HostStep, Launch, Program


def hold_up(
    working_ns: dict[int, float],
    program: Program,
    device: DeviceSpec,
    uses: Mapping[str, int],
    *,
    cold: bool,
) -> None:
    """Lets layers take longer by what the host takes in this run.

    Args:
        working_ns: of each compute command, by id.
        program: whose commands they are.
        device: with the host.
        uses: the first layer that waits for each weight.
        cold: True for the first run.
    """
    if program.transport is Transport.INLINE:
        return
    host = device.host
    commands = (c for c in program.compute if isinstance(c, Launch | HostStep))
    layers = {command.layer: command.id for command in commands}
    if cold and device.first_run is not None:
        loading = set(uses.values())
        own_ns = np.array([working_ns[command] for command in layers.values()])
        host_ns = [
            (device.first_launch_ns if layer in loading else host.first_layer_ns).value
            for layer in layers
        ]
        lasting_ns = behind_host(own_ns, np.array(host_ns)).tolist()
        working_ns.update(zip(layers.values(), lasting_ns, strict=True))
    if cold:
        for layer, size in _new_memory(program).items():
            working_ns[layers[layer]] += size * host.first_touch_ns.value
    if _crowded(program, uses):
        for command in layers.values():
            working_ns[command] += host.crowded_ns.value
    for alloc in program.memory:
        if isinstance(alloc, Alloc) and not alloc.once and alloc.object in uses:
            working_ns[layers[uses[alloc.object]]] += host.streamed_ns.value


def _new_memory(program: Program) -> dict[int, int]:
    """Bytes of activations, by layer, by which more are held than at any time before."""
    first_layer = {
        other: command.layer for command in reversed(program.compute) for other in command.after
    }
    held = most = 0
    rises: dict[int, int] = defaultdict(int)
    for command in program.memory:
        item = program.objects[command.object]
        if item.pool is not Pool.BUFFER:
            continue
        held += item.bytes if isinstance(command, Alloc) else -item.bytes
        if held > most:
            rises[first_layer[command.id]] += held - most
            most = held
    return rises


def _crowded(program: Program, uses: Mapping[str, int]) -> bool:
    """Whether the most activations have no room beside the weights in use, within the peak."""
    layer_of = {command.id: command.layer for command in program.compute}
    changes = [0] * (len(program.layers) + 1)  # in bytes of weights in use, layer by layer
    held = most = 0
    for command in program.memory:
        item = program.objects[command.object]
        allocated = isinstance(command, Alloc)
        if item.pool is Pool.BUFFER:
            held += item.bytes if allocated else -item.bytes
            most = max(most, held)
        elif isinstance(command, Alloc):
            changes[0 if command.once else uses[item.name]] += item.bytes
        else:
            changes[max(layer_of[used] for used in command.after) + 1] -= item.bytes
    in_use = max(accumulate(changes))
    return program.staging_bytes + in_use + most > program.predicted_peak_bytes
