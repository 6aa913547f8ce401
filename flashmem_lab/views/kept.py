"""What people did to a model in a workbench, kept on disk: a kernel that dies takes none of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flashmem_lab.device import Transport
from flashmem_lab.errors import FlashMemError
from flashmem_lab.folders import state_directory
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.write import write_file
from flashmem_lab.views.edits import Edits
from flashmem_lab.views.past import Past
from flashmem_lab.views.planning import Choice

SCHEMA = "flashmem-lab/workbench/1"
T = TypeVar("T")

FIRST_PERCENT = 30.0
"""Where the slider of a model that was never open before begins."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the controls said and what was asked of the schedules.

    Attributes:
        choice: of the controls.
        dims: values of symbolic dimensions, by name.
        edits: one for each device and precision with any.
        queue: paths of the models that were put into the queue.
    """

    choice: Choice
    dims: Mapping[str, int]
    edits: tuple[Edits, ...]
    queue: tuple[Path, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether nothing was done yet that anybody would miss."""
        return not self.edits and self.choice.percent == FIRST_PERCENT and len(self.queue) < 2

    @property
    def count(self) -> int:
        """Weights that something is asked of, on the device of `choice`."""
        for one in self.edits:
            if (one.device, one.precision) == (self.choice.device, self.choice.precision):
                asked = one.states[one.at]
                return len(asked.preload) + len(asked.stream) + len(asked.windows)
        return 0


@dataclass(frozen=True, slots=True)
class _History:
    runs: tuple[Past, ...]


class Keeper:
    """Keeps the state and the runs of one model's workbench in files of their own.

    They lie beside no one's files. Runs have a file to themselves, since they are many, and the
    state is written whenever the slider rests.

    What cannot be read or written is no reason to stop: then nothing is kept.

    Args:
        model: path of the .onnx file.
    """

    def __init__(self, model: Path) -> None:
        digest = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:24]
        self._file = state_directory() / f"{digest}.json"
        self._runs = state_directory() / f"{digest}.runs.json"

    def load(self) -> Kept | None:
        """What was kept; None where nothing is, or nothing that this version understands."""
        kept = _read(self._file, Kept)
        if kept is None or not all(0 <= one.at < len(one.states) for one in kept.edits):
            return None
        choice = kept.choice
        within = 0 <= choice.percent <= 100 and 0 <= choice.lambda_ <= 1
        return kept if within and choice.transport in ("", *Transport) else None

    def save(self, kept: Kept) -> None:
        """Keeps it."""
        _write(self._file, kept)

    def runs(self) -> tuple[Past, ...]:
        """The runs that were kept, the latest last."""
        history = _read(self._runs, _History)
        return history.runs if history else ()

    def save_runs(self, runs: Sequence[Past]) -> None:
        """Keeps them; at most `MOST_RUNS` of some ten kilobytes each."""
        _write(self._runs, _History(tuple(runs)))


def _read(file: Path, kind: type[T]) -> T | None:
    try:
        data = json.loads(file.read_bytes())
        return from_plain(data, kind) if data.pop("schema") == SCHEMA else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _write(file: Path, value: object) -> None:
    with suppress(FlashMemError):
        text = json.dumps({"schema": SCHEMA, **to_plain(value)})
        write_file(file, text, "keeping the state of the workbench")
