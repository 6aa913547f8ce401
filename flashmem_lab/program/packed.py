"""Packed weights as they are read: where each lies, and checksums of every block.

Apart from packing, which a run from a bundle never does and need not import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

from flashmem_lab.errors import CacheCorrupt, from_os_error
from flashmem_lab.program.program import PackedSpan


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed weight file.

    Attributes:
        path: the file.
        key: content key; equal keys mean equal bytes.
        spans: where each weight lies; offsets are bytes from the start of the file.
    """

    path: Path
    key: str
    spans: Mapping[str, PackedSpan]


def verify(packed: Packed) -> None:
    """Reads every block and compares its checksum.

    Raises:
        CacheCorrupt: the first weight that differs.
        FlashMemError: the file cannot be read.
    """
    try:
        with packed.path.open("rb") as file:
            for name, span in packed.spans.items():
                for _ in checked_blocks(file, span, weight=name, path=packed.path):
                    pass
    except OSError as error:
        raise from_os_error(error, "verifying packed weights") from error


def checked_blocks(file: BinaryIO, span: PackedSpan, *, weight: str, path: Path) -> Iterator[bytes]:
    """The blocks of a weight in order, each one checked.

    Raises:
        CacheCorrupt: a block differs, or the file ends before it.
    """
    block_bytes = span.block_rows * span.row_bytes
    for first in range(0, span.bytes, block_bytes):
        file.seek(span.offset + first)
        wanted = min(block_bytes, span.bytes - first)
        data = file.read(wanted)
        if len(data) != wanted:
            raise CacheCorrupt(path, weight)
        check_rows(span, first // span.row_bytes, data, weight=weight, file=path)
        yield data


def discard(packed: Packed) -> None:
    """Deletes the packed file, so that the next `pack_weights` makes it anew."""
    with suppress(FileNotFoundError):
        packed.path.unlink()


def check_rows(
    span: PackedSpan, first_row: int, data: memoryview | bytes, *, weight: str, file: Path
) -> None:
    """Compares rows that were read with their checksums.

    Args:
        span: of the weight.
        first_row: a multiple of span.block_rows.
        data: the rows' bytes: whole blocks, or up to the weight's end.
        weight: its name, for the message.
        file: where it lies, for the message.

    Raises:
        CacheCorrupt: a block differs.
    """
    block_bytes = span.block_rows * span.row_bytes
    view = memoryview(data).cast("B")
    first = first_row // span.block_rows
    for at in range(0, len(view), block_bytes):
        found = xxhash.xxh3_64_intdigest(view[at : at + block_bytes])
        if found != span.checksums[first + at // block_bytes]:
            raise CacheCorrupt(file, weight)
