"""Files of the user's own in which workbenches keep what is to outlive a kernel."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from flashmem_lab.errors import FlashMemError
from flashmem_lab.folders import state_directory
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.write import write_file

SCHEMA = "flashmem-lab/workbench/1"
T = TypeVar("T")


def store_of(model: Path, suffix: str) -> Path:
    """The file that belongs to a model's path; it lies beside no one's files."""
    digest = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:24]
    return state_directory() / f"{digest}{suffix}"


def read(file: Path, kind: type[T]) -> T | None:
    """What was kept; None where nothing is, or nothing that this version understands."""
    try:
        data = json.loads(file.read_bytes())
        return from_plain(data, kind) if data.pop("schema") == SCHEMA else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def write(file: Path, value: object) -> None:
    """Keeps a dataclass; what cannot be written is no reason to stop: then it is not kept."""
    with suppress(FlashMemError):
        text = json.dumps({"schema": SCHEMA, **to_plain(value)})
        write_file(file, text, "keeping the state of the workbench")
