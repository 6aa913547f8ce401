"""Compiled kernels are kept for later processes, and never trusted further than their checksums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashmem_lab.runtime.opencl import open_runtime
from flashmem_lab.runtime.opencl.kernels import Kernels

Make = Callable[..., Any]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Entries of the kernels that are compiled from source."""
    entries: list[str] = []
    original = Kernels._compile

    def noted(self: Kernels, kernel: Any) -> Any:
        entries.append(kernel.entry)
        return original(self, kernel)

    monkeypatch.setattr(Kernels, "_compile", noted)
    return entries


def run(device_id: str, chain: Any, folder: Path) -> None:
    with open_runtime(device_id, folder) as runtime:
        result = runtime.run(chain.program, chain.packed.path, chain.inputs)
    np.testing.assert_allclose(result.outputs["y"], chain.y, rtol=1e-5, atol=1e-5)


def test_the_second_process_compiles_nothing(
    device_id: str, make_chain: Make, tmp_path: Path, compiled: list[str]
) -> None:
    chain = make_chain()
    with open_runtime(device_id, tmp_path / "kernels") as runtime:
        runtime.prepare(chain.program)
    assert compiled == ["fma4"]
    run(device_id, chain, tmp_path / "kernels")
    assert compiled == ["fma4"]


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damaged_binaries_are_compiled_anew_and_replaced(
    device_id: str, make_chain: Make, tmp_path: Path, compiled: list[str], damage: str
) -> None:
    chain = make_chain()
    run(device_id, chain, tmp_path / "kernels")
    (file,) = (tmp_path / "kernels").iterdir()
    whole = file.read_bytes()
    flipped = bytes([whole[-1] ^ 1])
    file.write_bytes(
        {"cut": whole[:-1], "flip": whole[:-1] + flipped, "other": b"not kernels"}[damage]
    )
    run(device_id, chain, tmp_path / "kernels")
    assert compiled == ["fma4"] * 2
    run(device_id, chain, tmp_path / "kernels")
    assert compiled == ["fma4"] * 2


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    device_id: str, make_chain: Make, tmp_path: Path
) -> None:
    (tmp_path / "kernels").write_text("a file where the folder should be")
    run(device_id, make_chain(), tmp_path / "kernels")
