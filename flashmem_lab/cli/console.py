"""What people see: tables and JSON on stdout, progress bars and notes on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

_WIDTH_OF_FILES = 160  # columns, where there is no terminal to ask


def print_json(data: Mapping[str, Any]) -> None:
    """The one JSON object of a command; numbers that JSON lacks (NaN, infinity) become null."""
    print(json.dumps(_finite(data), indent=1, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def print_table(
    rows: Iterable[Sequence[str]], *, columns: Sequence[str] = (), title: str = ""
) -> None:
    """A table without frames; without columns it is names and values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        show_header=bool(columns),
        box=None,
        padding=(0, 2, 0, 0),
    )
    lines = [list(row) for row in rows]
    for at in range(max(map(len, lines), default=0)):
        # Folded, never cut: people copy paths and names from here.
        table.add_column(columns[at] if columns else "", overflow="fold")
    for line in lines:
        table.add_row(*line)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print(table)


def say(text: str) -> None:
    """A note on stderr."""
    print(f"note: {text}", file=sys.stderr)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on stderr, one for each thing that is told of; none where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    # Drawing takes a twentieth of a second to import: only for those who look.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as (
        bars
    ):
        tasks: dict[str, TaskID] = {}
        lock = Lock()  # the disk thread and the main thread both tell

        def tell(what: str, done: int, total: int) -> None:
            with lock:
                if what not in tasks:
                    tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield tell
