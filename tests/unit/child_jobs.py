"""Work that goes wrong, for a child process."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from flashmem_lab.errors import BudgetTooSmall
from flashmem_lab.worker.jobs import Desk


@dataclass(frozen=True, slots=True)
class Pid:
    """Says which process does the work."""

    def do(self, desk: Desk) -> int:
        return os.getpid()


@dataclass(frozen=True, slots=True)
class Abort:
    """Ends as a driver does that finds itself in an impossible state."""

    def do(self, desk: Desk) -> None:
        print("LLVM ERROR: no such register", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Never ends; says where it is, and leaves a file behind when it is asked to go."""

    left: Path

    def do(self, desk: Desk) -> None:
        desk.tell("sleeping", os.getpid(), 0)
        try:
            time.sleep(60)
        finally:
            self.left.write_text("gone")


@dataclass(frozen=True, slots=True)
class Fail:
    """Fails with an error of ours, or with a defect."""

    defect: bool

    def do(self, desk: Desk) -> None:
        if self.defect:
            raise KeyError("w")
        raise BudgetTooSmall(budget=1, needed=2_000_000, layer="lm_head")
