"""A notice of each run under way, for whoever looks from another process: Lab's side panel.

A notice is a small file of the user's own folder, so kernels, notebooks and the server need to know
nothing of each other. A notice whose process is gone is taken down by whoever reads it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import psutil

from flashmem_lab.errors import FlashMemError, UsageError
from flashmem_lab.folders import board_directory
from flashmem_lab.trace.write import write_file
from flashmem_lab.worker.jobs import Held, Message, Step

_SECONDS = 0.4  # between two writes of a notice
_ID = re.compile(r"(\d+)-\d+")
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class About:
    """What runs, in words for people.

    Attributes:
        model: names of the models.
        path: of the file, "" where there are several.
        device: its id.
        budget_bytes: cap of the run.
    """

    model: str
    path: str
    device: str
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class _State:
    what: str = "starting"
    done: int = 0
    total: int = 0
    held_bytes: int = 0
    host_bytes: int = 0


class Notice:
    """A notice on the board from enter to exit.

    Args:
        about: what runs.
    """

    def __init__(self, about: About) -> None:
        self._about, self._state = about, _State()
        self._file = board_directory() / f"{os.getpid()}-{next(_numbers)}.json"
        self._next = 0.0

    def __enter__(self) -> Notice:
        self._write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _take_down(self._file)

    def hear(self, message: Message) -> None:
        """Brings the notice up to date, a few times a second at most."""
        if isinstance(message, Step):
            what, done, total = message.what, message.done, message.total
            self._state = replace(self._state, what=what, done=done, total=total)
        elif isinstance(message, Held):
            held, host = message.total, message.host
            self._state = replace(self._state, held_bytes=held, host_bytes=host)
        if monotonic() >= self._next:
            self._write()

    def stopped(self) -> bool:
        """Whether somebody who reads the board asked for the run to stop."""
        return _stop(self._file).exists()

    def _write(self) -> None:
        self._next = monotonic() + _SECONDS
        with suppress(FlashMemError):  # nobody's run fails because nobody can look at it
            text = json.dumps({**asdict(self._about), **asdict(self._state)})
            write_file(self._file, text, "writing a notice of the run")


def notices() -> list[dict[str, Any]]:
    """Every run under way: the fields of `About`, how far it is, what it holds, and an "id"."""
    found = []
    for file in sorted(board_directory().glob("*.json")):
        name = _ID.fullmatch(file.stem)
        if name is None:
            continue
        if not psutil.pid_exists(int(name[1])):
            _take_down(file)
            continue
        with suppress(OSError, ValueError):  # it may just have been taken down
            found.append({"id": file.stem, **json.loads(file.read_bytes())})
    return found


def ask_to_stop(notice: str) -> None:
    """Asks for a run to stop; its own process does so within a moment.

    Raises:
        UsageError: no run has this id.
    """
    file = board_directory() / f"{notice}.json"
    if not _ID.fullmatch(notice) or not file.exists():
        raise UsageError(f"no run {notice!r} is under way")
    _stop(file).touch()


def _stop(file: Path) -> Path:
    return file.with_suffix(".stop")


def _take_down(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
        _stop(file).unlink(missing_ok=True)
