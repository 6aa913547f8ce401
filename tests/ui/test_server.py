"""The server's routes: files below Jupyter's folder and no others; children that fail."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from flashmem_lab.server.handlers import Worker
from flashmem_lab.worker.board import About, Notice
from tests.ui.conftest import Lab
from tests.unit.small_models import write_chain

pytestmark = pytest.mark.ui


def ask(lab: Lab, route: str, *, known: bool = True, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a route, asked with or without the token."""
    server, _, token = lab.url.removesuffix("&reset").partition("/lab?token=")
    request = urllib.request.Request(f"{server}/flashmem-lab/{route}", method=method)
    if known:
        request.add_header("Authorization", f"token {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_files_below_the_root_and_no_others(lab: Lab, tmp_path: Path) -> None:
    deep = lab.folder / "deep"
    deep.mkdir()
    write_chain(deep / "net.onnx")
    write_chain(deep / ".hidden.onnx")
    write_chain(tmp_path / "outside.onnx")
    (deep / "link.onnx").symlink_to(tmp_path / "outside.onnx")
    up = os.path.relpath(tmp_path / "outside.onnx", lab.folder)

    status, body = ask(lab, "graph?path=deep/net.onnx")
    assert status == 200
    assert body.startswith(b"FML1")
    status, body = ask(lab, "node?path=deep/net.onnx&node=0")
    assert status == 200
    assert "Layer 0" in [section["title"] for section in json.loads(body)]
    assert ask(lab, "node?path=deep/net.onnx&node=x")[0] == 400
    for path in ("deep/.hidden.onnx", "deep/link.onnx", up, "deep", "deep/none.onnx", "a\0b"):
        assert ask(lab, f"graph?path={quote(path)}")[0] == 404, path
    assert ask(lab, "graph?path=deep/net.onnx", known=False)[0] == 403
    assert ask(lab, "devices", known=False)[0] == 403
    assert ask(lab, "phones", known=False)[0] == 403
    assert json.loads(ask(lab, "phones")[1]) == []


def test_runs_of_any_kernel_are_listed_and_stopped(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(lab.cache))
    with Notice(About("net", "net.onnx", "sim:adreno750", 5000)) as notice:
        status, body = ask(lab, "jobs")
        assert status == 200
        (job,) = json.loads(body)
        assert (job["model"], job["budget_bytes"]) == ("net", 5000)
        assert ask(lab, f"jobs/{job['id']}/stop", known=False, method="POST")[0] == 403
        assert not notice.stopped()
        assert ask(lab, f"jobs/{job['id']}/stop", method="POST")[0] == 204
        assert notice.stopped()
    assert json.loads(ask(lab, "jobs")[1]) == []
    assert ask(lab, f"jobs/{job['id']}/stop", method="POST")[0] == 404
    assert ask(lab, "jobs", known=False)[0] == 403


def test_what_is_wrong_with_a_file_is_said(lab: Lab) -> None:
    (lab.folder / "words.trace.json").write_text('{"schema": "other/1"}')
    status, body = ask(lab, "timeline?path=words.trace.json")
    assert status == 422
    assert "not a trace" in json.loads(body)["message"]
    assert json.loads(body)["hint"]


def test_a_child_that_dies_is_an_answer_too() -> None:
    answer = asyncio.run(Worker().run("no such work"))
    assert answer.status == 500
    assert "exit code 1" in json.loads(answer.body)["message"]
    assert "doctor" in json.loads(answer.body)["hint"]
