"""Content keys of packed weights, with the digests of the model's files remembered as git does."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import xxhash

from flashmem_lab.errors import FlashMemError, ModelError, from_os_error
from flashmem_lab.lower.layer import LoweredModel
from flashmem_lab.program.container import replacing
from flashmem_lab.serial import to_plain

Progress = Callable[[str, int, int], None]
Stamp = tuple[int, ...]
"""Device, inode, size, mtime_ns and ctime_ns of a file: changed content changes one of them."""

SUFFIX = ".fmw"
"""Of packed weights in the cache."""

FORMAT = 1
"""Version of the packed layout; a change of it packs everything anew."""

_IN_USE_S = 3600.0  # a file used since then may belong to a run that has not opened it yet
_INDEX = "sources.json"
_INDEX_ENTRIES = 512
_RACY_NS = 2_000_000_000  # a file younger than the clock's grain may change under the same stamp
_PIECE = 8 * 2**20


def stamp(path: Path) -> Stamp:
    """What tells that a file is still the one that was read.

    Raises:
        ModelError: the file is not there.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ModelError(
            f"{path} holds weights of the model but is missing",
            hint="put the file back beside the model, or export the model again",
        ) from None
    except OSError as error:
        raise from_os_error(error, "reading weights") from error
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def source_files(model: LoweredModel) -> list[Path]:
    """The files that hold weights of the model, each once, by real path."""
    sources = (weight.recipe.source for weight in model.weights.values())
    return sorted({source.file.resolve() for source in sources if source is not None})


def content_key(model: LoweredModel, digests: Mapping[Path, str]) -> str:
    """Hex digest of everything that determines the packed bytes and their places.

    Args:
        model: its weights: names, layouts, recipes and the constants that they use.
        digests: of the source files, by real path.
    """
    digest = xxhash.xxh3_128()

    def add(value: object) -> None:
        text = json.dumps(value, separators=(",", ":")).encode()
        digest.update(len(text).to_bytes(8, "little") + text)

    add(FORMAT)
    for weight in model.weights.values():
        source = weight.recipe.source
        add([weight.name, weight.storage, weight.dtype, weight.width, weight.height])
        add(to_plain(weight.recipe.steps))
        if source is not None:
            add([digests[source.file.resolve()], source.offset, source.length])
            add([source.dtype, source.shape])
        used = [str(step.args[1]) for step in weight.recipe.steps if step.op == "scale"]
        for name in (*used, weight.recipe.constant):
            if name in model.constants:
                dtype, shape, data = model.constants[name]
                add([name, dtype, shape, xxhash.xxh3_128_hexdigest(data)])
    return digest.hexdigest()


def source_digests(
    files: list[Path], directory: Path, progress: Progress | None = None
) -> dict[Path, str]:
    """Digest of each file's content; unchanged files are not read again.

    The digest (xxh3-128) guards against change, not against malice: the cache is the user's own.

    Args:
        files: real paths.
        directory: the cache, where the index of digests lies.
        progress: told of the bytes hashed.

    Raises:
        FlashMemError: a file is missing, cannot be read, or changes while it is read.
    """
    index = _read_index(directory / _INDEX)
    digests: dict[Path, str] = {}
    learned: dict[str, list[object]] = {}
    for file in files:
        before = stamp(file)
        known = index.get(str(file))
        if known is not None and known[:-1] == list(before):
            digests[file] = str(known[-1])
            continue
        digests[file] = _digest(file, before[2], progress)
        if stamp(file) != before:
            raise FlashMemError(f"{file} changed while it was read", hint="run again")
        if time.time_ns() - max(before[3], before[4]) > _RACY_NS:
            learned[str(file)] = [*before, digests[file]]
    if learned:
        _write_index(directory / _INDEX, {**index, **learned})
    return digests


def _digest(file: Path, size: int, progress: Progress | None) -> str:
    digest = xxhash.xxh3_128()
    done = 0
    try:
        with file.open("rb", buffering=0) as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                if progress is not None:
                    progress(f"hashing {file.name}", done, size)
    except OSError as error:
        raise from_os_error(error, "reading weights") from error
    return digest.hexdigest()


def _read_index(path: Path) -> dict[str, list[object]]:
    """Entries by real path: the stamp's numbers, then the digest; a damaged index is empty."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {
        file: entry
        for file, entry in loaded.items()
        if isinstance(entry, list) and len(entry) == 6 and isinstance(entry[-1], str)
    }


def _write_index(path: Path, index: dict[str, list[object]]) -> None:
    """Keeps the youngest entries; a lost race or a full disk costs one hashing, so it is silent."""
    youngest = dict(list(index.items())[-_INDEX_ENTRIES:])
    with suppress(FlashMemError), replacing(path, "remembering digests") as file:
        file.write(json.dumps(youngest, indent=0).encode())


def touch(path: Path) -> None:
    """Remembers that a packed file was used now; what is not the user's own stays as it is."""
    with suppress(OSError):
        os.utime(path)


def make_room(directory: Path, wanted: int) -> None:
    """Deletes packed weights, longest unused first, until half of the disk's room is enough.

    The cache and `wanted` bytes more may take half of what would be free without it. Files used
    in the last hour stay.
    """
    found = []
    for path in directory.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    kept = sum(size for _, size, _ in found)
    most = (kept + shutil.disk_usage(directory).free) // 2
    for used, size, path in sorted(found):
        if kept + wanted <= most or time.time() - used < _IN_USE_S:
            return
        with suppress(OSError):
            path.unlink()
            kept -= size
