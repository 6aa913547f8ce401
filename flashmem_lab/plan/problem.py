"""The planning problem: a lowered model on a device as a few arrays.

Steps are layers 0..N-1, weights are 0..n-1 in order of use. Arrays keep planning of 1,500 layers
within a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isinf

import numpy as np
from numpy.typing import NDArray

from flashmem_lab.device.spec import NO_HOST, DeviceSpec, HostTimes, Reading, Transport
from flashmem_lab.errors import UsageError
from flashmem_lab.lower.layer import KernelCall, LoweredModel, Storage
from flashmem_lab.plan.chunks import CHUNK_BYTES, Staging, chunk_layout, staging

LONG = 0.95
"""Share of the layers that run shorter than what is called a long one."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What planners and the simulator compute with.

    Attributes:
        layers: names, N of them.
        classes: operator class value of each layer.
        activation: (N,) bytes of activation buffers alive at each step.
        duration_ns: (N,) time of each layer when nothing disturbs it.
        slack: (N,) share of its time that loading may add to each layer.
        weights: names, n of them, by first use, then in the model's order.
        size: (n,) device bytes.
        first, last: (n,) layers of first and last use.
        chunks: (n,) number of chunks.
        chunk, tail: (n,) bytes of each chunk but the last, and of the last.
        staging: the ring.
        disk, upload: bytes/s; `upload` is infinite for `map`, where reads land in place.
        contention: share by which layers and uploads take longer while the disk reads.
        launch_ns: of one kernel more.
        transport: how bytes move.
        launched: (N,) True for layers that are kernels; only they move bytes themselves (`inline`).
        index: position of each weight name.
        first_run: disk, contention and time of a weight in a first run, where they are others.
        weight_ns: time that the disk takes for each weight besides, in first runs and in place.
        first_launch_ns: time of the host for a layer that loads weights, in a first run.
        host: what runs take of the host besides; `told` has it.
        start_ns: before the first layer and after the last one.
    """

    layers: tuple[str, ...]
    classes: tuple[str, ...]
    activation: Ints
    duration_ns: Floats
    slack: Floats
    weights: tuple[str, ...]
    size: Ints
    first: Ints
    last: Ints
    chunks: Ints
    chunk: Ints
    tail: Ints
    staging: Staging
    disk: float
    upload: float
    contention: float
    launch_ns: float
    transport: Transport
    launched: Mask
    index: dict[str, int]
    first_run: Reading | None = None
    weight_ns: float = 0.0
    first_launch_ns: float = 0.0
    host: HostTimes = NO_HOST
    start_ns: float = 0.0

    def in_run(self, *, cold: bool) -> Problem:
        """The problem of a first run, or of later ones."""
        if not cold or self.first_run is None:
            return self
        rates = self.first_run
        host_ns = np.full(len(self.layers), self.host.first_layer_ns.value)
        host_ns[self.first] = self.first_launch_ns
        return replace(
            self,
            duration_ns=behind_host(self.duration_ns, host_ns),
            disk=rates.disk.value,
            contention=rates.contention.value,
            weight_ns=rates.weight_ns.value if isinf(self.upload) else 0.0,
            first_run=None,
        )

    @property
    def rate(self) -> float:
        """Bytes/s of the slower of the lanes that a weight passes."""
        return min(self.disk, self.upload)

    @property
    def capacity(self) -> Floats:
        """(N,) C_l, bytes that can move while each layer runs, stretched as far as it may be.

        None where the layer itself would have to move them (`inline`) and hides nothing.
        """
        stretched = self.duration_ns * (1 + self.slack) * self.rate / 1e9
        if self.transport is Transport.INLINE:
            return np.where(self.launched & (self.slack > 0), stretched, 0.0)
        return stretched

    @property
    def load(self) -> Floats:
        """(n,) bytes that the disk would read in the time that it takes for each weight."""
        return self.size.astype(np.float64) + self.weight_ns * self.disk / 1e9

    @property
    def own_disk(self) -> float:
        """Bytes/s of the disk on the clock of layers and uploads, which it slows (`clock`)."""
        return self.disk * (1 + self.contention)

    def lost_ns(self, size: float) -> float:
        """By how much layers and uploads fall behind while the disk reads `size` bytes."""
        return self.contention * size / self.own_disk * 1e9

    @property
    def compute_ns(self) -> float:
        """Time of one run when no weight has to move."""
        return self.start_ns + float(self.duration_ns.sum())

    def mask(self, names: Iterable[str]) -> Mask:
        """(n,) True for the named weights.

        Raises:
            UsageError: a name is not a weight held on the device.
        """
        chosen = np.zeros(len(self.weights), dtype=bool)
        for name in names:
            if name not in self.index:
                raise UsageError(
                    f"{name!r} is not a weight that this model holds on the device",
                    hint="flashmem-lab inspect MODEL --layers --json lists the weights by name",
                )
            chosen[self.index[name]] = True
        return chosen


def build_problem(
    model: LoweredModel,
    device: DeviceSpec,
    transport: Transport,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Problem:
    """Reduces `model` on `device` to arrays.

    A layer lasts as long as `DeviceSpec.layer_ns` says.

    Raises:
        UsageError: the model has no layers.
    """
    if not model.layers:
        raise UsageError(f"{model.name} has no layer to run", hint="choose a model that computes")
    count = len(model.layers)
    position = {name: at for at, name in enumerate(model.weights)}
    uses = sorted(
        (first, position[name], last, name)
        for name, (first, last) in model.weight_uses().items()
        if model.weights[name].storage is not Storage.HOST
    )
    names = tuple(use[3] for use in uses)
    layouts = [chunk_layout(model.weights[name], chunk_bytes) for name in names]
    layout = np.array(layouts, dtype=np.int64).reshape(-1, 3)
    spans = np.array([(use[0], use[2]) for use in uses], dtype=np.int64).reshape(-1, 2)
    classes = tuple(layer.op_class.value for layer in model.layers)
    duration = [
        device.layer_ns(
            layer.op_class.value, layer.kind, layer.flops, layer.bytes_read + layer.bytes_written
        )
        for layer in model.layers
    ]
    long_ns = float(np.quantile(duration, LONG))
    later = device.reading(cold=False, transport=transport)
    lifetimes = model.lifetimes()
    alive = np.array([lifetimes[name] for name in lifetimes], dtype=np.int64).reshape(-1, 2)
    held = np.array([model.buffers[name] for name in lifetimes], dtype=np.int64)
    return Problem(
        layers=tuple(layer.name for layer in model.layers),
        classes=classes,
        activation=held_between(alive[:, 0], alive[:, 1] + 1, held, count),
        duration_ns=np.array(duration, dtype=np.float64),
        slack=np.array([device.slack[name].value for name in classes]),
        weights=names,
        size=(layout[:, 0] - 1) * layout[:, 1] + layout[:, 2],
        first=spans[:, 0],
        last=spans[:, 1],
        chunks=layout[:, 0],
        chunk=layout[:, 1],
        tail=layout[:, 2],
        staging=staging(
            model, transport, chunk_bytes, ahead_bytes=long_ns * later.disk.value / 1e9
        ),
        disk=later.disk.value,
        upload=float("inf") if transport is Transport.MAP else device.upload.value,
        contention=later.contention.value,
        launch_ns=device.launch_ns.value,
        transport=transport,
        launched=np.array([isinstance(layer.work, KernelCall) for layer in model.layers]),
        index={name: at for at, name in enumerate(names)},
        first_run=device.first_run,
        weight_ns=later.weight_ns.value if transport is Transport.MAP else 0.0,
        # Where kernels move weights, what they hide goes by their own time.
        first_launch_ns=0.0 if transport is Transport.INLINE else device.first_launch_ns.value,
        host=NO_HOST if transport is Transport.INLINE else device.host,
    )


def behind_host(duration_ns: Floats, host_ns: Floats) -> Floats:
    """(N,) how long each layer lasts where the host makes them ready one after another.

    A layer starts no earlier than the host is done with it and those before; while a long one
    runs, the host gets ahead. That of the first layer is part of the run's start.

    Args:
        duration_ns: (N,) of the layers alone.
        host_ns: (N,) that the host takes for each.
    """
    elapsed = np.concatenate(([0.0], np.cumsum(duration_ns)))
    ready = np.cumsum(host_ns) - host_ns[0]
    end: Floats = elapsed[1:] + np.maximum.accumulate(ready - elapsed[:-1])
    return np.diff(end, prepend=0.0)


def held_between(start: Ints, stop: Ints, size: Ints, layers: int) -> Ints:
    """(layers,) total size of the things that are held at each step in [start, stop)."""
    # Sums of bytes are whole numbers that floats hold exactly.
    begun = np.bincount(start, weights=size, minlength=layers + 1)
    ended = np.bincount(stop, weights=size, minlength=layers + 1)
    return np.cumsum(begun[:layers] - ended[:layers]).astype(np.int64)
