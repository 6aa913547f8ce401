"""Workers get a processor each where PoCL may use them all, unless the user has decided."""

from __future__ import annotations

import os

import pytest

from flashmem_lab.runtime.opencl.affinity import pin_workers


@pytest.mark.parametrize(
    ("allowed", "before", "after"),
    [
        ({0, 1, 2, 3}, None, "1"),
        ({0, 1, 2, 3}, "0", "0"),
        ({1, 2}, None, None),
        ({0, 1}, None, None),
    ],
)
def test_workers_are_pinned_where_all_processors_are_ours(
    monkeypatch: pytest.MonkeyPatch, allowed: set[int], before: str | None, after: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("POCL_AFFINITY", raising=False)
    if before is not None:
        monkeypatch.setenv("POCL_AFFINITY", before)
    pin_workers()
    assert os.environ.get("POCL_AFFINITY") == after
