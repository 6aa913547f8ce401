"""Traces as JSON files, to be drawn elsewhere or later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashmem_lab.errors import UsageError, from_os_error
from flashmem_lab.serial import from_plain, to_plain
from flashmem_lab.trace.trace import Trace
from flashmem_lab.trace.write import write_file

SCHEMA = "flashmem-lab/trace/1"


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """`trace` as plain JSON values, with "schema"."""
    return {"schema": SCHEMA, **to_plain(trace)}


def trace_from_json(data: object) -> Trace:
    """The trace that `trace_to_json` wrote as `data`.

    Raises:
        UsageError: `data` is not a trace, or of another schema; the message names the field.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(data, dict) or schema != SCHEMA:
        raise UsageError(
            f"not a trace: schema {schema!r}, expected {SCHEMA!r}",
            hint="give a file written by run --trace FILE.json",
        )
    try:
        return from_plain({key: value for key, value in data.items() if key != "schema"}, Trace)
    except ValueError as error:
        raise UsageError(f"damaged trace: {error}", hint="record the run again") from None


def save_trace(trace: Trace, path: Path) -> None:
    """Writes `trace` as JSON to `path`.

    Raises:
        FlashMemError: the file cannot be written.
    """
    write_file(path, json.dumps(trace_to_json(trace), separators=(",", ":")), "writing the trace")


def load_trace(path: Path) -> Trace:
    """Reads what `save_trace` wrote.

    Raises:
        UsageError: the file is not a trace.
        FlashMemError: the file cannot be read.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise from_os_error(error, "reading the trace") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    return trace_from_json(data)
