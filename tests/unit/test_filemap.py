"""Files as memory: what is brought counts, what is forgotten does not, and no signal ever comes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from flashmem_lab.runtime.filemap import PIECE, FileMap, can_map
from tests.files import cached_bytes, drops_pages

pytestmark = pytest.mark.skipif(not can_map(), reason="this system maps no files as we need it")
_SIZE = 64 * 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of random bytes, on the disk."""
    made = tmp_path / "weights"
    with made.open("wb") as file:
        np.random.default_rng(3).integers(0, 256, _SIZE, np.uint8).tofile(file)
        os.fsync(file.fileno())
    return made


@pytest.fixture
def mapped(path: Path) -> Iterator[FileMap]:
    file = os.open(path, os.O_RDONLY)
    made = FileMap(file, _SIZE)
    yield made
    made.close()
    os.close(file)


def resident(path: Path) -> int:
    """Bytes of the file that are memory of this process."""
    maps = psutil.Process().memory_maps()
    return sum(one.rss for one in maps if one.path == str(path))


def test_what_is_brought_is_memory_of_this_process_until_it_is_forgotten(
    mapped: FileMap, path: Path
) -> None:
    assert resident(path) == 0
    mapped.bring(4096, _SIZE // 2)
    # At both ends the system may map all of the piece (2 MiB at most) in which it keeps the file.
    assert _SIZE // 2 <= resident(path) <= _SIZE // 2 + 4 * 2**20
    mapped.forget(4096, _SIZE // 2)
    assert resident(path) <= 4 * 2**20


def test_forgotten_bytes_are_there_when_they_are_looked_at(mapped: FileMap, path: Path) -> None:
    mapped.bring(0, _SIZE)
    mapped.forget(8192, 3 * 2**20)
    assert np.array_equal(mapped[0:_SIZE], np.fromfile(path, np.uint8))


def test_a_file_that_got_shorter_is_an_error(mapped: FileMap, path: Path) -> None:
    os.truncate(path, _SIZE // 2)
    mapped.bring(0, _SIZE // 2)
    for begin in (_SIZE // 2, _SIZE // 4):
        with pytest.raises(OSError, match=os.strerror(errno.EFAULT)):
            mapped.bring(begin, _SIZE // 2)


def test_bytes_that_are_one_count_no_more_than_others(mapped: FileMap, path: Path) -> None:
    size = 2 * PIECE + PIECE // 2
    mapped.as_one(PIECE // 2, size)
    mapped.bring(PIECE // 2, size)
    assert size <= resident(path) <= size + PIECE  # what is mapped around the first page
    mapped.forget(PIECE // 2, size)
    assert resident(path) <= PIECE


def test_what_is_read_is_no_memory_of_this_process(mapped: FileMap, path: Path) -> None:
    drops_pages(path)  # where that is possible
    mapped.read(0, 3 * PIECE)
    assert resident(path) == 0
    assert cached_bytes(path) >= 3 * PIECE
