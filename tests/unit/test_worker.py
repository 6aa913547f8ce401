"""The child process of runs: warm from job to job, stopped, killed, crashed, and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flashmem_lab import workflow
from flashmem_lab.errors import BudgetTooSmall, Cancelled, UsageError, WorkerDied
from flashmem_lab.units import Budget
from flashmem_lab.worker import Isolated
from flashmem_lab.worker.board import About, Notice, ask_to_stop, notices
from flashmem_lab.worker.jobs import Held, Step
from flashmem_lab.worker.planning import Ask
from flashmem_lab.worker.process import Worker
from tests.unit.child_jobs import Abort, Fail, Pid, Sleep
from tests.unit.small_models import write_chain

DEVICE = "sim:adreno750"


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()
    assert made.pid is None


def test_one_child_does_every_job(worker: Worker) -> None:
    first = worker.do(Pid())
    assert first not in (os.getpid(), None)
    assert worker.do(Pid()) == first == worker.pid
    assert worker.do(Pid(), fresh=True) != first


def test_a_crash_is_told_with_the_last_words_and_the_next_job_is_done(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match=r"SIGABRT.*LLVM ERROR: no such register"):
        worker.do(Abort())
    assert worker.pid is None
    assert worker.do(Pid()) != os.getpid()


def test_a_child_that_is_killed_amid_its_work(worker: Worker, tmp_path: Path) -> None:
    def hear(message: Step | Held) -> None:
        if isinstance(message, Step):
            os.kill(message.done, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="SIGKILL"):
        worker.do(Sleep(tmp_path / "left"), hear)
    assert worker.do(Pid()) != os.getpid()


def test_what_is_stopped_cleans_up(worker: Worker, tmp_path: Path) -> None:
    heard: list[Step | Held] = []
    with pytest.raises(Cancelled):
        worker.do(Sleep(tmp_path / "left"), heard.append, lambda: len(heard) > 2)
    assert heard[0] == Step("sleeping", heard[0].done, 0)  # type: ignore[union-attr]
    assert any(isinstance(one, Held) and one.host > 0 for one in heard)
    assert (tmp_path / "left").read_text() == "gone"


def test_a_child_that_died_between_jobs_is_not_noticed(worker: Worker) -> None:
    first = worker.do(Pid())
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert worker.do(Pid()) != first


def test_errors_come_back_as_they_are(worker: Worker) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        worker.do(Fail(defect=False))
    assert caught.value.needed == 2_000_000
    assert "lm_head" in str(caught.value)
    with pytest.raises(RuntimeError, match="KeyError: 'w'"):
        worker.do(Fail(defect=True))


def test_a_job_that_waits_for_its_turn_can_be_stopped(worker: Worker, tmp_path: Path) -> None:
    asked: list[None] = []

    def second() -> bool:
        asked.append(None)
        return True

    def hear(message: Step | Held) -> None:
        if isinstance(message, Step):
            with pytest.raises(Cancelled):
                worker.do(Pid(), stop=second)

    with pytest.raises(Cancelled):
        worker.do(Sleep(tmp_path / "left"), hear, lambda: bool(asked))


def test_runs_as_the_workflow_does(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path / "cache"))
    engine = Isolated(worker, worker)
    write_chain(tmp_path / "net.onnx")
    device = engine.open_device(DEVICE)
    assert device == workflow.open_device(DEVICE)
    assert DEVICE in [state.spec.id for state in engine.devices()]
    prepared = engine.load(tmp_path / "net.onnx", device=device)
    plan = engine.make_plan(prepared, Ask(Budget(share=0.3)))
    outcome = engine.run(prepared, plan, repeat=2)
    here = workflow.run(prepared, plan, repeat=2)
    assert outcome.result.trace == here.result.trace
    assert outcome.plan == plan
    assert outcome.rss_baseline_bytes != here.rss_baseline_bytes


def test_a_run_is_seen_and_stopped_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path))
    assert notices() == []
    with Notice(About("net", "net.onnx", DEVICE, 5000)) as notice:
        notice.hear(Held({"texture": 1000, "buffer": 20}, 7))
        notice._next = 0.0
        notice.hear(Step("run 1 of 2", 3, 9))
        (seen,) = notices()
        assert (seen["model"], seen["held_bytes"], seen["done"]) == ("net", 1020, 3)
        assert not notice.stopped()
        ask_to_stop(seen["id"])
        assert notice.stopped()
    assert notices() == []
    for unknown in (seen["id"], "../x", "1-1"):
        with pytest.raises(UsageError):
            ask_to_stop(unknown)
    gone = 2**22 + 1  # no Linux counts processes that far
    (tmp_path / "running" / f"{gone}-0.json").write_text("{}")
    assert notices() == []
    assert list((tmp_path / "running").iterdir()) == []


def test_the_child_goes_with_its_parent(tmp_path: Path) -> None:
    parent = """
import os, sys
from pathlib import Path
from flashmem_lab.worker.process import Worker
from tests.unit.child_jobs import Sleep

def hear(message):
    print(message.done, flush=True)
    os._exit(0)

Worker().do(Sleep(Path(sys.argv[1])), hear)
"""
    said = subprocess.run(
        [sys.executable, "-c", parent, str(tmp_path / "left")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    with suppress(psutil.NoSuchProcess):  # it may be gone already
        psutil.Process(int(said.stdout)).wait(timeout=20)
