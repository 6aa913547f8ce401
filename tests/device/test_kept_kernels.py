"""Compiled kernels are kept for the next process, and a damaged file costs a compilation, no more.

Another runtime stands for another process: it shares nothing with the first but the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from flashmem_lab.runtime.opencl import open_runtime

Make = Callable[..., Any]


def compiled(device_id: str, folder: Path, chain: Any) -> int:
    """How many kernels a fresh runtime compiles for a right result."""
    with open_runtime(device_id, folder) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)
    return result.kernels_compiled


def test_what_was_compiled_is_loaded(device_id: str, make_chain: Make, tmp_path: Path) -> None:
    chain, folder = make_chain(), tmp_path / "kernels"
    distinct = len({kernel.source for kernel in chain.program.kernels})
    assert compiled(device_id, folder, chain) == distinct
    assert len(list(folder.iterdir())) == distinct
    assert compiled(device_id, folder, chain) == 0


def test_without_a_folder_nothing_is_kept(runtime: Any, make_chain: Make, tmp_path: Path) -> None:
    chain = make_chain()
    runtime.run(chain.program, chain.packed.path, chain.inputs)
    again = runtime.run(chain.program, chain.packed.path, chain.inputs)
    assert again.kernels_compiled == 0, "one runtime builds a source once"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "another driver's"])
def test_what_is_damaged_is_compiled_again(
    device_id: str, make_chain: Make, tmp_path: Path, damage: str
) -> None:
    chain, folder = make_chain(), tmp_path / "kernels"
    distinct = compiled(device_id, folder, chain)
    for path in folder.iterdir():
        data = path.read_bytes()
        foreign = b"no binary of this driver"
        path.write_bytes(
            {
                "flipped": data[:100] + bytes([data[100] ^ 1]) + data[101:],
                "truncated": data[:-1],
                "empty": b"",
                "another driver's": xxhash.xxh3_128_digest(foreign) + foreign,
            }[damage]
        )
    assert compiled(device_id, folder, chain) == distinct
    assert compiled(device_id, folder, chain) == 0, "and kept anew"


def test_a_source_finds_no_binary_but_its_own(
    device_id: str, make_chain: Make, tmp_path: Path
) -> None:
    chain, folder = make_chain(), tmp_path / "kernels"
    distinct = compiled(device_id, folder, chain)
    changed = tuple(replace(k, source=f"{k.source}\n") for k in chain.program.kernels)
    other = replace(chain, program=replace(chain.program, kernels=changed))
    assert compiled(device_id, folder, other) == distinct


def test_a_folder_that_cannot_be_made_stops_nothing(
    device_id: str, make_chain: Make, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert compiled(device_id, blocked / "kernels", make_chain()) > 0
