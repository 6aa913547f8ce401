"""Packed weight files: rows that lie apart, tables, whole weights past the page cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashmem_lab.errors import CacheCorrupt, FlashMemError, InputError
from flashmem_lab.program.container import align
from flashmem_lab.runtime.filemap import can_map
from flashmem_lab.runtime.hostmemory import HostMemory
from flashmem_lab.runtime.pagecache import PageCache
from flashmem_lab.runtime.weightfile import WeightFiles
from tests.files import cached_bytes, drops_pages

Make = Callable[..., Any]
past_cache = pytest.mark.skipif(not can_map(), reason="only where weights are used in place")


def damage(path: Path, offset: int) -> None:
    """Changes a byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def test_rows_that_lie_apart(tmp_path: Path, make_chain: Make) -> None:
    """A driver's row pitch may be wider than a row."""
    chain = make_chain(layers=1, width=3, height=9000)
    span = chain.packed.spans["w0"]
    file = WeightFiles([chain.packed.path], chain.packed.spans)
    wide = np.zeros((9000, span.row_bytes + 16), np.uint8)
    file.read_rows("w0", 0, wide[:, : span.row_bytes])
    tight = np.empty((9000, span.row_bytes), np.uint8)
    file.read_rows("w0", 0, tight)
    file.close()
    assert np.array_equal(wide[:, : span.row_bytes], tight)
    assert not wide[:, span.row_bytes :].any()
    constant = chain.model.constants["c0"][2]
    assert tight.tobytes() == constant


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system drops no pages")
@pytest.mark.parametrize("pages", list(PageCache))
def test_pages_are_dropped_behind_the_read(
    make_chain: Make, monkeypatch: pytest.MonkeyPatch, pages: PageCache
) -> None:
    chain = make_chain()
    told: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *advice: told.append(advice))
    file = WeightFiles([chain.packed.path], chain.packed.spans, pages)
    whole = file.whole("w1")
    file.close()
    assert np.array_equal(
        whole.view(np.float32), np.frombuffer(chain.model.constants["c1"][2], "f4")
    )
    span = chain.packed.spans["w1"]
    dropped = [(at, size) for at, size, advice in told if advice == os.POSIX_FADV_DONTNEED]
    # The file is small, so that "auto" keeps its pages. In the end all go that were read ahead.
    assert dropped == ([(span.offset, span.bytes), (0, 0)] if pages is PageCache.DROP else [])


def test_no_rows_of_a_table(make_host_model: Make) -> None:
    model = make_host_model(index=(1, 1))
    with closing(WeightFiles([model.packed.path], model.packed.spans)) as file:
        taken = file.take("table", np.empty(0, np.int64))
    assert taken.shape == (0, model.packed.spans["table"].row_bytes)


def test_negative_rows_of_a_table_count_from_its_end(make_host_model: Make) -> None:
    model = make_host_model(index=(1, 1))
    index = np.array([-1, 0, -5000, 4999, -2])
    with closing(WeightFiles([model.packed.path], model.packed.spans)) as file:
        for _ in range(2):  # blocks are checked the first time only
            taken = file.take("table", index)
            assert taken.tobytes() == model.table[index].tobytes()


@pytest.mark.parametrize("wrong", [5000, -5001])
def test_rows_that_a_table_does_not_have(make_host_model: Make, wrong: int) -> None:
    model = make_host_model(index=(1, 1))
    with (
        closing(WeightFiles([model.packed.path], model.packed.spans)) as file,
        pytest.raises(InputError, match=f"index {wrong} is outside table 'table'"),
    ):
        file.take("table", np.array([0, wrong]))


def test_a_damaged_row_of_a_table_is_found_by_its_block(make_host_model: Make) -> None:
    model = make_host_model(index=(1, 1), rows=20_000)
    span = model.packed.spans["table"]
    damage(model.packed.path, span.offset + (span.block_rows + 3) * span.row_bytes)
    with closing(WeightFiles([model.packed.path], model.packed.spans)) as file:
        first = file.take("table", np.array([span.block_rows - 1]))
        assert first.tobytes() == model.table[[span.block_rows - 1]].tobytes()
        with pytest.raises(CacheCorrupt, match="table"):
            file.take("table", np.array([0, span.block_rows]))


def room_for(files: WeightFiles, chain: Any, names: list[str]) -> list[np.ndarray]:
    """Memory for whole weights, each apart from the one before."""
    sizes = [align(chain.packed.spans[name].bytes) for name in names]
    memory = HostMemory(2 * sum(sizes)).bytes
    begins = np.cumsum([0, *(2 * size for size in sizes)])
    return [
        memory[begin : begin + size] for begin, size in zip(begins.tolist(), sizes, strict=False)
    ]


@past_cache
@pytest.mark.parametrize("refused", [False, True])
def test_whole_weights_leave_nothing_in_the_page_cache(
    make_chain: Make, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Nor do they where the file system writes to no memory by itself."""
    chain = make_chain(layers=3, width=33, height=99)
    path, spans = chain.packed.path, chain.packed.spans
    with path.open("rb") as file:
        os.fsync(file.fileno())
    drops = drops_pages(path)  # a file system in memory keeps them
    if refused:
        opened = os.open

        def refuse(name: Path, flags: int) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return opened(name, flags)

        monkeypatch.setattr(os, "open", refuse)
    names = ["w0", "w1", "w2"]
    with closing(WeightFiles([path], spans, PageCache.DROP)) as files:
        into = room_for(files, chain, names)
        for _ in range(2):
            for array in into:
                array[:] = 0
            files.read_whole(names, into)
            for name, array in zip(names, into, strict=True):
                wanted = chain.model.constants[f"c{name[1:]}"][2]
                assert array[: spans[name].bytes].tobytes() == wanted
    assert (cached_bytes(path) == 0) == drops


@past_cache
def test_what_lies_between_two_weights_is_left_out(make_chain: Make) -> None:
    chain = make_chain(layers=3, width=33, height=99)
    with closing(WeightFiles([chain.packed.path], chain.packed.spans, PageCache.DROP)) as files:
        assert files.near("w0", "w2")
        assert not files.near("w2", "w0")
        first, last = into = room_for(files, chain, ["w0", "w2"])
        files.read_whole(["w0", "w2"], into)
    for at, array in ((0, first), (2, last)):
        size = chain.packed.spans[f"w{at}"].bytes
        assert array[:size].tobytes() == chain.model.constants[f"c{at}"][2]


@past_cache
def test_weights_far_apart_are_not_read_at_once(make_chain: Make) -> None:
    chain = make_chain(layers=3)  # of 1 MiB each
    with closing(WeightFiles([chain.packed.path], chain.packed.spans, PageCache.DROP)) as files:
        assert files.near("w0", "w1")
        assert not files.near("w0", "w2")


@past_cache
@pytest.mark.parametrize("how", ["damaged", "short"])
def test_a_whole_weight_that_is_wrong_is_named(make_chain: Make, how: str) -> None:
    chain = make_chain(layers=3, width=33, height=99)
    span = chain.packed.spans["w1"]
    if how == "damaged":
        damage(chain.packed.path, span.offset + span.bytes - 1)
    else:
        os.truncate(chain.packed.path, span.offset + span.bytes - 1)
    names = ["w0", "w1"]
    with closing(WeightFiles([chain.packed.path], chain.packed.spans, PageCache.DROP)) as files:
        with pytest.raises(CacheCorrupt, match="w1"):
            files.read_whole(names, room_for(files, chain, names))
        files.read_whole(["w0"], room_for(files, chain, ["w0"]))


@past_cache
def test_a_disk_that_fails_is_an_error_of_ours(
    make_chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_chain(layers=1)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with closing(WeightFiles([chain.packed.path], chain.packed.spans, PageCache.DROP)) as files:
        into = room_for(files, chain, ["w0"])
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(FlashMemError, match="reading packed weights of 'w0'"):
            files.read_whole(["w0"], into)
