"""The browser's part of the views: built from widgets/, shipped in the wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from flashmem_lab.errors import FlashMemError

_FOLDER = Path(__file__).parent / "static"


@cache
def static(name: str) -> str:
    """Text of a built file, such as "graph.js".

    Raises:
        FlashMemError: a checkout whose front end was not built.
    """
    try:
        return (_FOLDER / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FlashMemError(
            f"the browser's part of the views ({name}) is not built",
            hint="in a checkout: scripts/setup.sh frontend",
        ) from None
