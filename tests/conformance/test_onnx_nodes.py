"""ONNX's own backend node tests on the OpenCL device, and the table of them in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashmem_lab.runtime.opencl import OpenCLRuntime
from tests.conformance.cases import Verdict, run_cases
from tests.conformance.table import between, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"


@pytest.fixture(scope="module")
def verdicts(runtime: OpenCLRuntime, tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    return run_cases(runtime, tmp_path_factory.mktemp("conformance"))


def test_no_case_gives_a_wrong_answer(verdicts: list[Verdict]) -> None:
    assert [verdict.case for verdict in verdicts if verdict.result == "wrong"] == []


def test_the_table_in_the_docs_is_what_runs(verdicts: list[Verdict]) -> None:
    written = between(DOCUMENT.read_text())
    assert table(verdicts) == written, "python -m tests.conformance.table docs/operators.md"
