"""The command that opens JupyterLab with the workbench."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from flashmem_lab.cli.console import print_json, say
from flashmem_lab.cli.parser import Options
from flashmem_lab.errors import UsageError, from_os_error

_FIRST = "01_first_look.ipynb"


def lab(options: Options) -> int:
    """Becomes JupyterLab on the first notebook; an installed package copies it here first."""
    command = [sys.executable, "-m", "jupyterlab", f"--port={options.port}"]
    if options.no_browser:
        command.append("--no-browser")
    if os.geteuid() == 0:  # in a container; it listens on localhost and asks for a token
        command.append("--allow-root")
    command.append(str(_notebook()))
    if options.json:
        print_json({"schema": "flashmem-lab/lab/1", "command": command})
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606  (Ctrl-C is Jupyter's alone)


def _notebook() -> Path:
    """The notebook of a checkout, or a copy of the package's in the working folder."""
    checkout = Path(__file__).resolve().parents[2] / "notebooks" / _FIRST
    if checkout.is_file():
        return checkout
    packaged = Path(str(files("flashmem_lab"))) / "_notebooks" / _FIRST
    if not packaged.is_file():
        raise UsageError(f"this installation has no {_FIRST}", hint="install flashmem-lab again")
    copy = Path.cwd() / _FIRST
    if not copy.exists():
        try:
            shutil.copyfile(packaged, copy)
        except OSError as error:
            raise from_os_error(error, "copying the notebook here") from error
        say(f"copied the notebook to {copy}")
    return copy
