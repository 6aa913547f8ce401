"""Chunks of weights, and the staging ring that holds a few of them."""

from __future__ import annotations

from dataclasses import dataclass

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import BLOCK_BYTES, LoweredModel, Storage, Weight

CHUNK_BYTES = 1 << 20
"""Chunk size that plans are made with: reads this long reach a disk's sequential speed."""

RING_SLOTS = 4
"""Staging slots of the copy transport: one being read, one uploaded, two to absorb jitter."""

INLINE_SLOTS = 8
"""Of the inline transport: small weights take a whole slot too, and wait for the next kernel."""

MOST_SLOTS = 40
"""Of the inline transport with those for long kernels (see `staging`)."""

CARRIED = 4
"""Chunks that one kernel moves at most: each is three more arguments and a loop."""


@dataclass(frozen=True, slots=True)
class Staging:
    """The ring in unified memory that `copy` and `inline` read into; no slots for `map`."""

    slot_bytes: int
    slots: int

    @property
    def bytes(self) -> int:
        """Held during the whole run."""
        return self.slot_bytes * self.slots


def chunk_layout(weight: Weight, chunk_bytes: int) -> tuple[int, int, int]:
    """(number of chunks, bytes of each but the last, bytes of the last) of `Weight.chunks`."""
    row_bytes = weight.row_bytes
    rows = max(1, BLOCK_BYTES // row_bytes) * max(1, chunk_bytes // BLOCK_BYTES)
    rows = min(rows, weight.height)
    count = -(-weight.height // rows)
    return count, rows * row_bytes, (weight.height - (count - 1) * rows) * row_bytes


def staging(
    model: LoweredModel,
    transport: Transport,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    ahead_bytes: float = 0.0,
) -> Staging:
    """The ring for `model`: slots of its largest chunk, no more of them than there are chunks.

    Args:
        model: whose weights.
        transport: how they move.
        chunk_bytes: of a chunk.
        ahead_bytes: what the disk reads while a long kernel runs. With `inline` it has to wait in
            the ring until the next kernel can move it; a smaller ring would stop the disk.
    """
    if transport is Transport.MAP:
        return Staging(0, 0)
    used = {name for layer in model.layers for name in layer.weights}
    layouts = [
        chunk_layout(model.weights[name], chunk_bytes)
        for name in used
        if model.weights[name].storage is not Storage.HOST
    ]
    chunks = sum(count for count, _, _ in layouts)
    largest = max((max(size, last) for _, size, last in layouts), default=0)
    most = RING_SLOTS
    if transport is Transport.INLINE and largest:
        most = min(INLINE_SLOTS + int(ahead_bytes // largest), MOST_SLOTS)
    return Staging(largest, min(most, chunks))
