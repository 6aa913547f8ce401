"""Calling the command line in this process."""

import json
from typing import Any

import pytest

from flashmem_lab.cli import main

Capture = pytest.CaptureFixture[str]

ON_PAPER = ["--device", "sim:pocl", "--dim", "batch=2"]
"""Options that run a small model without a device."""


def json_of(capsys: Capture, *argv: str) -> dict[str, Any]:
    """Runs a command with --json and checks that its stdout is one object with a schema."""
    capsys.readouterr()
    code = main([*argv, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    data = json.loads(out)
    assert data["schema"].startswith("flashmem-lab/")
    return dict(data)
