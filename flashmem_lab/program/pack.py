"""Packs a model's weights once: texture layout, order of use, one file, cached by content.

The file holds a data section (each weight at an aligned offset, rows tight, little-endian) and,
behind it, a header with where each weight lies and a checksum of every block. It appears under
its name only when it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from flashmem_lab.errors import FlashMemError, from_os_error
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.program.cache import (
    FORMAT,
    SUFFIX,
    Progress,
    content_key,
    make_room,
    source_digests,
    source_files,
    stamp,
    touch,
)
from flashmem_lab.program.container import (
    PREAMBLE_BYTES,
    WEIGHT_BUFFER,
    FrameError,
    align,
    check_room,
    encode_header,
    encode_preamble,
    pad_to,
    read_frame,
    remove_stale,
    replacing,
    reserve,
)
from flashmem_lab.program.packed import Packed
from flashmem_lab.program.program import PackedSpan
from flashmem_lab.program.recipes import Lazy, lazy_weight
from flashmem_lab.program.sources import Sources
from flashmem_lab.serial import from_plain, to_plain

MAGIC = b"FMLWGT\r\n"
_PIECE_BYTES = 4 * 2**20  # made and written at once; a transposition reads its source this often
_DOING = "packing weights"


def pack_weights(
    model: LoweredModel, directory: Path, *, progress: Progress | None = None
) -> Packed:
    """The packed weights of `model`, from the cache or made now.

    A damaged or truncated file in the cache is made anew; blocks of the data are checked when
    they are read (`check_rows`), or all at once by `verify`. Memory held is a few blocks and
    what is written at once.

    Args:
        model: what to pack; every weight, host tables included.
        directory: the cache; made if it is missing.
        progress: called as progress(what, bytes done, bytes in all).

    Raises:
        DiskFull: the cache has no room; nothing is left behind.
        ModelError: a source file is missing or truncated.
        FlashMemError: a recipe does not fit, a value is beyond fp16, or a source file changes.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, _DOING) from error
    files = source_files(model)
    before = {file: stamp(file) for file in files}
    key = content_key(model, source_digests(files, directory, progress))
    path = directory / f"{key}{SUFFIX}"
    places, data_end = _places(model)
    if (spans := _open_cached(path, key, places)) is not None:
        touch(path)
        return Packed(path, key, spans)
    remove_stale(directory)
    make_room(directory, data_end)
    check_room(directory, data_end, _DOING)
    with (
        replacing(path, _DOING, buffer_bytes=WEIGHT_BUFFER) as file,
        Sources(model.constants) as sources,
    ):
        reserve(file, data_end)
        spans = _write_data(model, places, sources, file, data_end, progress)
        _write_header(file, key, spans, data_end)
        for source in files:
            if stamp(source) != before[source]:
                raise FlashMemError(f"{source} changed while it was packed", hint="run again")
    return Packed(path, key, spans)


# --- places --------------------------------------------------------------------------------


def _places(model: LoweredModel) -> tuple[dict[str, PackedSpan], int]:
    """Where each weight will lie, still without checksums, and the end of the data section."""
    places: dict[str, PackedSpan] = {}
    offset = PREAMBLE_BYTES
    for weight in model.weights.values():
        blocks = weight.blocks()
        places[weight.name] = PackedSpan(
            offset=offset,
            bytes=weight.packed_bytes,
            row_bytes=weight.row_bytes,
            block_rows=blocks[0][1] if blocks else 1,
            checksums=(),
        )
        offset = align(offset + weight.packed_bytes)
    return places, offset


def _open_cached(
    path: Path, key: str, places: Mapping[str, PackedSpan]
) -> dict[str, PackedSpan] | None:
    """Spans of a cached file, or None where it is missing, damaged or not what is wanted."""
    try:
        frame = read_frame(path, MAGIC, FORMAT)
        if not isinstance(frame.header, dict) or frame.header.get("key") != key:
            return None
        spans = from_plain(frame.header.get("spans"), dict[str, PackedSpan])
    except (OSError, FrameError, ValueError):
        return None
    unchecked = {name: replace(span, checksums=()) for name, span in spans.items()}
    if unchecked != places:
        return None
    complete = all(
        len(span.checksums) == -(-span.bytes // (span.block_rows * span.row_bytes))
        for span in spans.values()
    )
    return spans if complete else None


# --- writing -------------------------------------------------------------------------------


def _write_data(
    model: LoweredModel,
    places: Mapping[str, PackedSpan],
    sources: Sources,
    file: BinaryIO,
    total: int,
    progress: Progress | None,
) -> dict[str, PackedSpan]:
    """Writes every weight at its place; returns the spans with their checksums."""
    spans: dict[str, PackedSpan] = {}
    for weight in model.weights.values():
        place = places[weight.name]
        array = lazy_weight(weight, sources)
        pad_to(file, place.offset)
        checksums: list[int] = []
        rows = max(1, _PIECE_BYTES // (place.row_bytes * place.block_rows)) * place.block_rows
        for first in range(0, weight.height, rows):
            data = _rows(array, first, min(first + rows, weight.height))
            checksums += _checksums(data, place.block_rows * place.row_bytes)
            file.write(data)
            if progress is not None:
                progress(_DOING, file.tell() - PREAMBLE_BYTES, total - PREAMBLE_BYTES)
        spans[weight.name] = replace(place, checksums=tuple(checksums))
    return spans


def _rows(array: Lazy, start: int, stop: int) -> memoryview:
    """Bytes of rows start .. stop of a two-dimensional array, row-major."""
    rows = np.ascontiguousarray(array.pull(((start, stop), (0, array.shape[1]))))
    return rows.reshape(-1).view(np.uint8).data


def _checksums(data: memoryview, block_bytes: int) -> list[int]:
    return [
        xxhash.xxh3_64_intdigest(data[at : at + block_bytes])
        for at in range(0, len(data), block_bytes)
    ]


def _write_header(file: BinaryIO, key: str, spans: Mapping[str, PackedSpan], data_end: int) -> None:
    """Header behind the data, preamble before it; the last is what makes the file valid."""
    header, plain_bytes = encode_header({"key": key, "spans": to_plain(spans)})
    pad_to(file, data_end)
    file.write(header)
    preamble = encode_preamble(
        MAGIC,
        FORMAT,
        header,
        plain_bytes,
        header_offset=data_end,
        data_offset=PREAMBLE_BYTES,
        data_bytes=data_end - PREAMBLE_BYTES,
        file_bytes=data_end + len(header),
    )
    file.seek(0)
    file.write(preamble)
