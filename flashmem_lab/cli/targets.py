"""Files that a command writes: never over what it reads, nor over what is not its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from flashmem_lab.cli.parser import Options
from flashmem_lab.errors import UsageError

_HEAD_BYTES = 4096
_OURS = {
    "report": re.compile(rb"<!DOCTYPE html>", re.IGNORECASE),
    ".json": re.compile(rb'\{\s*("traceEvents"|"schema":\s*"flashmem-lab/trace/)'),
    ".csv": re.compile(rb"record,run,track,kind,"),
    # The first packet, and in it the name that write_perfetto gives the process.
    ".pftrace": re.compile(rb"\n.*\((measured|simulated|adb)\)", re.DOTALL),
}
"""How files that `run` wrote before begin, by what they are."""


def refuse_targets(options: Options, weights: Iterable[Path] = ()) -> None:
    """Refuses to write over what the command reads, or what is not its own, before any work.

    Args:
        options: of the command; its targets are --html, --trace and -o.
        weights: files that hold weights of the model, once it is known.

    Raises:
        UsageError: a target is a folder, a device, another target, something that the command
            reads, or for --html and --trace something that `run` has not written.
    """
    output, trace, html = (getattr(options, name, None) for name in ("output", "trace", "html"))
    targets: list[Path] = [target for target in (output, trace, html) if target is not None]
    for at, target in enumerate(targets):
        if any(_same(target, other) for other in targets[:at]):
            raise UsageError(
                f"{target} is to be written twice", hint="give each option a file of its own"
            )
    models = [options.model] if hasattr(options, "model") else getattr(options, "models", [])
    inputs = dict(getattr(options, "input", ())).values()
    read = [*models, getattr(options, "plan", None), *inputs, *weights]
    files = [target for target in targets if not (target is output and _is_folder_of(options))]
    for target in files:
        if not target.exists():
            continue
        if target.is_dir():
            raise UsageError(f"{target} is a folder", hint="name a file in it")
        if not target.is_file():  # /dev/full never ends when one looks what it is
            raise UsageError(f"{target} is no file", hint="name a file")
        if any(_same(target, source) for source in read if source is not None):
            raise UsageError(f"{target} is read by this command", hint="name another file")
    if html is not None:
        _refuse_others_files(html, "report")
    if trace is not None:
        _refuse_others_files(trace, trace.suffix)


def _is_folder_of(options: Options) -> bool:
    """--output of `run` names a folder, that of other commands a file."""
    return hasattr(options, "html")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, links of either kind followed."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _refuse_others_files(path: Path, kind: str) -> None:
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not head or _OURS[kind].match(head):
            return
    what = "a report" if kind == "report" else f"a {kind} trace"
    raise UsageError(
        f"{path} exists and is not {what} of this tool; it is left alone",
        hint="choose another name, or delete it",
    )
