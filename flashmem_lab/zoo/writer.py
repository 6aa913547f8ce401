"""Writes a zoo model to disk: the exported graph as it is, and its weights drawn from a seed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from flashmem_lab.errors import DiskFull, FlashMemError, from_os_error
from flashmem_lab.units import format_bytes
from flashmem_lab.zoo.recipe import ZooEntry, member_stream, open_archive, read_member
from flashmem_lab.zoo.weights import BLOCK_ELEMENTS, GENERATOR, blocks

COPY_BYTES = 4 * BLOCK_ELEMENTS

Progress = Callable[[int, int], None]


def write(
    entry: ZooEntry,
    directory: Path,
    *,
    seed: int,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes ``directory/NAME.onnx`` and ``directory/NAME.onnx.data``.

    Both appear at once when they are complete; a write that fails or is interrupted leaves nothing,
    and what a killed one leaves (a folder .NAME-*.part) the next one removes. Files that already
    are this very model are kept.

    Args:
        entry: the model.
        directory: made if missing.
        seed: same seed, same bytes.
        force: overwrite files of the same names that are something else.
        progress: called with bytes written and bytes in all.

    Returns:
        The path of the ONNX file.

    Raises:
        DiskFull: no room for the data file.
        FlashMemError: other files of these names are there, or the disk refused.
    """
    graph_path = directory / f"{entry.name}.onnx"
    data_path = directory / f"{entry.name}.onnx.data"
    graph = _graph(entry, seed)
    doing = f"writing the model {entry.name} to"
    try:
        if _is_made(entry, graph, graph_path, data_path):
            return graph_path
        if not force and (graph_path.exists() or data_path.exists()):
            raise FlashMemError(
                f"{directory} already has another {graph_path.name} or {data_path.name}",
                hint="--force overwrites it; -o names another directory",
            )
        _remove_stale_parts(directory, entry.name)
        _check_room(entry, directory, len(graph) + entry.data_bytes)
        made_directory = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with _part_folder(directory, entry.name) as part:
                new_graph, new_data = part / graph_path.name, part / data_path.name
                new_graph.write_bytes(graph)
                with new_data.open("wb") as stream:
                    _write_data(entry, stream, seed=seed, progress=progress)
                graph_path.unlink(missing_ok=True)  # no graph ever stands beside another's data
                new_data.replace(data_path)
                new_graph.replace(graph_path)
        except BaseException:
            if made_directory:
                with suppress(OSError):
                    directory.rmdir()
            raise
    except OSError as error:
        error.filename = error.filename or str(directory)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(entry, directory, len(graph) + entry.data_bytes) from error
        raise from_os_error(error, doing) from error
    return graph_path


@contextmanager
def _part_folder(directory: Path, name: str) -> Iterator[Path]:
    """A folder for unfinished files, removed at the end, and locked while its maker lives."""
    with tempfile.TemporaryDirectory(prefix=f".{name}-", suffix=".part", dir=directory) as part:
        lock = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(part)
        finally:
            os.close(lock)


def _remove_stale_parts(directory: Path, name: str) -> None:
    """Removes the unfinished folders that no living process has locked."""
    for part in directory.glob(f".{name}-*.part"):
        lock = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(part)
        finally:
            os.close(lock)


def _is_made(entry: ZooEntry, graph: bytes, graph_path: Path, data_path: Path) -> bool:
    """Whether the files are what would be written: the graph names its seed and its weights."""
    return (
        data_path.is_file()
        and data_path.stat().st_size == entry.data_bytes
        and graph_path.is_file()
        and graph_path.stat().st_size == len(graph)
        and graph_path.read_bytes() == graph
    )


def _check_room(entry: ZooEntry, directory: Path, needed: int) -> None:
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    if shutil.disk_usage(existing).free < needed:
        raise _disk_full(entry, directory, needed)


def _disk_full(entry: ZooEntry, directory: Path, needed: int) -> DiskFull:
    return DiskFull(
        f"the disk of {directory} has no room for {entry.name}, which takes {format_bytes(needed)}",
        hint="free some space, or name a directory on another disk with -o",
    )


def _graph(entry: ZooEntry, seed: int) -> bytes:
    """The exported ModelProto, plus metadata that says which weights the data file holds."""
    archive = entry.archive.read_bytes()
    with open_archive(io.BytesIO(archive)) as members:
        graph = read_member(members, "model.onnx")
    weights = hashlib.sha256(archive + GENERATOR.encode())
    for tensor in entry.tensors:
        weights.update(repr(tensor).encode())
    metadata = {
        "flashmem_lab.zoo.name": entry.name,
        "flashmem_lab.zoo.seed": str(seed),
        "flashmem_lab.zoo.weights": weights.hexdigest(),
    }
    return graph + b"".join(_metadata_field(key, value) for key, value in metadata.items())


def _metadata_field(key: str, value: str) -> bytes:
    """One more ModelProto.metadata_props (field 14), in protobuf's wire format.

    Appending to a serialised message appends to its repeated fields, so nothing is parsed here.
    """
    pair = _string_field(1, key.encode()) + _string_field(2, value.encode())
    return _string_field(14, pair)


def _string_field(number: int, content: bytes) -> bytes:
    length, size = len(content), bytearray()
    while length > 0x7F:  # varint: 7 bits a byte, low ones first
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def _write_data(
    entry: ZooEntry, stream: IO[bytes], *, seed: int, progress: Progress | None
) -> None:
    """Fills the data file front to back, one block at a time."""
    end = 0
    with entry.archive.open("rb") as archive, open_archive(archive) as members:
        constants = member_stream(members, "constants.bin")
        for tensor in entry.tensors:
            stream.write(bytes(tensor.offset - end))
            end = tensor.offset
            if tensor.distribution is not None:
                count = tensor.length // 4
                pieces: Iterator[bytes | memoryview] = (
                    block.data
                    for block in blocks(
                        tensor.distribution, seed=seed, name=tensor.name, count=count
                    )
                )
            else:
                constants.seek(tensor.constant or 0)
                pieces = _pieces(constants, tensor.length)
            for piece in pieces:
                end += stream.write(piece)
                if progress is not None:
                    progress(end, entry.data_bytes)


def _pieces(stream: IO[bytes], length: int) -> Iterator[bytes]:
    while length:
        piece = stream.read(min(length, COPY_BYTES))
        if not piece:
            raise ValueError("the zoo's archive ends before its constants do")
        length -= len(piece)
        yield piece
