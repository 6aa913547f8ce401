"""The parent's side: a child process, started when there is work and replaced when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from flashmem_lab.errors import Cancelled, WorkerDied
from flashmem_lab.worker.jobs import Done, Failed, Job, Message, Quit

Hear = Callable[[Message], None]
"""Told what a job says; called in the thread that waits for it."""

Stop = Callable[[], bool]
"""Asked every now and then whether the job is not wanted any more."""

_POLL_SECONDS = 0.05  # how soon a job that is not wanted any more is ended
_GRACE_SECONDS = 1.0  # to remove half-written files
_LOG_BYTES, _LOG_LINES = 4096, 3
_CODE = "import sys; from flashmem_lab.worker.child import main; main(int(sys.argv[1]))"


class Worker:
    """Does jobs in a child process, one at a time; others wait for their turn.

    The child is kept from job to job, so that kernels stay built and libraries loaded. After a
    failure it is replaced: a driver that lost its device once may never find it again in the same
    process.

    Args:
        lasting: for jobs without a driver: what fails is an answer like others, and a job that is
            not wanted any more is asked to end before the child is.
    """

    def __init__(self, *, lasting: bool = False) -> None:
        self._lasting = lasting
        self._turn = Lock()
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """Of the child; None where none runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def do(
        self,
        job: Job,
        hear: Hear | None = None,
        stop: Stop | None = None,
        *,
        fresh: bool = False,
    ) -> Any:
        """Does a job and returns its value.

        Args:
            job: what to do.
            hear: told how far it is.
            stop: when it says so, the job is ended.
            fresh: in a new child.

        Raises:
            WorkerDied: the child crashed, or was killed; the next job starts another.
            Cancelled: `stop` said so.
            Exception: what the job raised.
        """
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            if stop is not None and stop():
                raise Cancelled
        try:
            if fresh or self._child is None or not self._child.alive:
                self._end()
                self._child = _Child()
            return self._child.do(job, hear, stop, _GRACE_SECONDS if self._lasting else 0.0)
        except BaseException:
            if not (self._lasting and self._child is not None and self._child.idle):
                self._end()
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Ends the child, with whatever it does."""
        self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """One child process and the socket to it.

    Attributes:
        idle: whether it has no job that is not answered yet.
    """

    def __init__(self) -> None:
        self.idle = True
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - a driver's last words; `end` closes it
        package = Path(__file__).parents[2]
        with theirs:
            # The package that asks does the work, whatever else is installed or lies in the
            # folder (-P); Ctrl-C and Jupyter's interrupt are for the parent alone.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": _joined(package, os.environ.get("PYTHONPATH"))},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def do(self, job: Job, hear: Hear | None, stop: Stop | None, patience: float) -> Any:
        """See `Worker.do`; `patience` is how long a job may take to end when it is asked to, s."""
        last: float | None = None  # moment until which a job that was asked to end may answer
        self.idle = False
        try:
            self._connection.send(job)
            while True:
                if last is None and stop is not None and stop():
                    last = monotonic() + patience
                    if patience:
                        self._connection.send(Quit())
                if last is not None and monotonic() >= last:
                    raise Cancelled
                if not self._connection.poll(_POLL_SECONDS):
                    continue
                match self._connection.recv():
                    case Done() | Failed() as answer:
                        self.idle = True
                        if last is not None:
                            raise Cancelled
                        if isinstance(answer, Failed):
                            raise answer.error
                        return answer.value
                    case message:
                        if hear is not None and last is None:
                            hear(message)
        except (EOFError, ConnectionError):
            raise self._died() from None

    def end(self) -> None:
        """Ends the process, politely at first."""
        self._connection.close()
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._log.close()

    def _died(self) -> WorkerDied:
        self._connection.close()
        code = self._process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LOG_BYTES))
        said = self._log.read().decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
        return WorkerDied(how, " / ".join(line.strip() for line in said))


def _joined(package: Path, given: str | None) -> str:
    return os.pathsep.join([str(package), given]) if given else str(package)
