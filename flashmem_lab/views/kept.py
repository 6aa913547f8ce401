"""What people did to a model in a workbench, kept on disk: a kernel that dies takes none of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flashmem_lab.errors import FlashMemError
from flashmem_lab.folders import state_directory
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.write import write_file
from flashmem_lab.views.edits import Edits
from flashmem_lab.views.planning import Choice

SCHEMA = "flashmem-lab/workbench/1"
FIRST_PERCENT = 30.0
"""Where the slider of a model that was never open before begins."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the controls said and what was asked of the schedules.

    Attributes:
        choice: of the controls.
        dims: values of symbolic dimensions, by name.
        edits: one for each device and precision with any.
    """

    choice: Choice
    dims: Mapping[str, int]
    edits: tuple[Edits, ...]

    @property
    def is_first(self) -> bool:
        """Whether nothing was done yet that anybody would miss."""
        return not self.edits and self.choice.percent == FIRST_PERCENT

    @property
    def count(self) -> int:
        """Weights that something is asked of, on the device of `choice`."""
        for one in self.edits:
            if (one.device, one.precision) == (self.choice.device, self.choice.precision):
                asked = one.states[one.at]
                return len(asked.preload) + len(asked.stream) + len(asked.windows)
        return 0


class Keeper:
    """Keeps the state of one model's workbench in a file of its own, beside no one's files.

    What cannot be read or written is no reason to stop: then nothing is kept.

    Args:
        model: path of the .onnx file.
    """

    def __init__(self, model: Path) -> None:
        digest = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:24]
        self._file = state_directory() / f"{digest}.json"

    def load(self) -> Kept | None:
        """What was kept; None where nothing is, or nothing that this version understands."""
        try:
            data = json.loads(self._file.read_bytes())
            if data.pop("schema") != SCHEMA:
                return None
            kept = from_plain(data, Kept)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return None
        whole = all(0 <= one.at < len(one.states) for one in kept.edits)
        return kept if whole and 0 <= kept.choice.percent <= 100 else None

    def save(self, kept: Kept) -> None:
        """Keeps it."""
        with suppress(FlashMemError):
            text = json.dumps({"schema": SCHEMA, **to_plain(kept)})
            write_file(self._file, text, "keeping the state of the workbench")
