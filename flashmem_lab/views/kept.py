"""What people did to a model in a workbench, kept on disk: a kernel that dies takes none of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashmem_lab.device import Transport
from flashmem_lab.views.edits import Edits
from flashmem_lab.views.planning import Choice
from flashmem_lab.views.store import read, store_of, write

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


class Keeper:
    """Keeps the state of one model's workbench; it is written whenever the slider rests.

    Args:
        model: path of the .onnx file.
    """

    def __init__(self, model: Path) -> None:
        self._file = store_of(model, ".json")

    def load(self) -> Kept | None:
        """What was kept; None where nothing is, or nothing that this version understands."""
        kept = read(self._file, Kept)
        if kept is None or not all(0 <= one.at < len(one.states) for one in kept.edits):
            return None
        choice = kept.choice
        within = 0 <= choice.percent <= 100 and 0 <= choice.lambda_ <= 1
        return kept if within and choice.transport in ("", *Transport) else None

    def save(self, kept: Kept) -> None:
        """Keeps it."""
        write(self._file, kept)
