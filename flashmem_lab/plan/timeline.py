"""Events and memory samples: one schema for the simulator, a local run and a phone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Lane(StrEnum):
    """What works: the three lanes of a program, and the host's own memory bookkeeping."""

    DISK = "disk"
    TRANSFER = "transfer"
    COMPUTE = "compute"


class Pool(StrEnum):
    """Where bytes are held."""

    TEXTURE = "texture"  # weights: image objects, or buffers under --storage buffer
    BUFFER = "buffer"  # activations
    STAGING = "staging"  # ring of the copy and inline transports
    HOST = "host"  # resident set of the process, sampled


@dataclass(frozen=True, slots=True)
class Event:
    """Something that occupied a lane.

    Attributes:
        lane: which.
        kind: "read", "upload", "launch", "replay", "host", "rows", "write-input", "read-output",
            "stall". An "upload" of the compute lane is a kernel that only moves a chunk (`inline`);
            a "replay" is many launches recorded before, whose own times nobody knows.
        name: layer's or weight's name; of a replay the first and the last one.
        layer: layer index, or -1.
        weight: weight name, or "".
        start_ns, end_ns: from the start of the run.
        bytes: moved; of a launch, what its kernel carries (`inline`).
        run: 0 for the cold run, then 1, 2, ...
        queued_ns: when the device was given it, from the start of the run; -1 where that has no
            meaning or is not known.
    """

    lane: Lane
    kind: str
    name: str
    layer: int
    weight: str
    start_ns: int
    end_ns: int
    bytes: int
    run: int = 0
    queued_ns: int = -1


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Bytes held in one pool from this moment on."""

    time_ns: int
    pool: Pool
    bytes: int
    run: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events and memory samples, each sorted by time."""

    events: tuple[Event, ...]
    samples: tuple[MemorySample, ...]
