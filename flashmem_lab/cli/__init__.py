"""The command line: `flashmem-lab COMMAND`; exit code 0 fine, 1 the work failed, 2 bad usage."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from flashmem_lab.cli.parser import build_parser
from flashmem_lab.errors import FlashMemError, from_os_error

_INTERRUPTED = 130  # what shells give a program that Ctrl-C ended
_GARBAGE = 50_000  # objects made before the first of them are looked at again; Python's own is 700


def process() -> NoReturn:
    """Runs the command that this process was started for, and ends the process.

    A start is short: 40 ms of one went to looking for garbage while modules are imported. What
    `run` leaves is the system's to free: to tear down Python, PoCL and LLVM in order took 50 ms.
    """
    gc.set_threshold(_GARBAGE, 10, 10)
    code = main()
    if sys.argv[1:2] == ["run"]:
        atexit._run_exitfuncs()  # noqa: SLF001 - as Python does; `os._exit` does not
        with suppress(OSError):  # whoever reads them has gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code. Results go to stdout; progress, notes and errors to stderr.
    """
    _mend_streams()
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        # Commands import what they need, so that --help and mistakes are answered at once.
        command = getattr(import_module(options.module), options.function)
        code = int(command(options))
        sys.stdout.flush()
    except FlashMemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has gone; Python must not complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {from_os_error(error, 'working')}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(
            f"error: this machine has not the memory for that{f': {error}' if str(error) else ''}\n"
            "  hint: give smaller inputs (--dim, --shape), or close other programs",
            file=sys.stderr,
        )
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "flashmem_lab":
            raise
        print(
            f"error: the Python package {error.name!r} is not installed\n"
            "  hint: pip install flashmem-lab, into the environment that runs this",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _mend_streams() -> None:
    """Streams that take whatever is printed: none is closed, and none lacks a letter of a name."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`; print would send errors to stdout
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (as long as we run)
        elif isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
