"""The bench of streaming measures what it says, on a small model."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from flashmem_lab.bench import streaming
from tests.unit.small_models import write_chain


def test_a_row_divides_its_runs(device_id: str, tmp_path: Path) -> None:
    write_chain(tmp_path / "chain.onnx")
    options = argparse.Namespace(
        device=device_id, precision="fp32", storage="auto", budget="30%", rounds=1
    )
    row = streaming._measure("chain", tmp_path / "chain.onnx", tmp_path / "packed", options)
    assert 0 < row.streamed_bytes < 8 * 256 * 256 * 4
    assert row.cached_ratio == pytest.approx(row.cached_ms / row.resident_ms)
    assert row.dropped_ms == row.dropped.wall_ms
    slower = max(row.resident_ms, row.disk_ms)
    assert row.dropped_ratio == pytest.approx(row.dropped_ms / slower)
    assert len(streaming._cells(row)) == len(streaming.COLUMNS)
    assert streaming._plain(row)["cached"]["layers_ms"] > 0
