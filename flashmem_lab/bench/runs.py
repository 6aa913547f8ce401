"""What benches share: a model of the zoo on disk, and a run of it in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flashmem_lab import zoo
from flashmem_lab.errors import FlashMemError


@contextmanager
def zoo_model(name: str, folder: Path | None) -> Iterator[tuple[Path, Path]]:
    """A model's file, and a folder for its packed weights that is deleted afterwards.

    Args:
        name: in the zoo.
        folder: where FOLDER/NAME/NAME.onnx is, or is made and kept; None for a temporary one.

    Raises:
        FlashMemError: the disk has no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="flashmem-lab-") as scratch:
        home = (folder or Path(scratch)) / name
        path = home / f"{name}.onnx"
        if not path.exists():
            room = shutil.disk_usage(folder if folder and folder.exists() else scratch).free
            needed = zoo.entry(name).data_bytes * 2  # the model, and its packed weights
            if room < needed:
                raise FlashMemError(
                    f"{name} needs {needed >> 30} GiB of disk, {room >> 30} are free",
                    hint="name another disk with --folder, or fewer models with --models",
                )
            zoo.make(name, home)
        yield path, Path(scratch) / "packed"


def run_json(cache: Path, *argv: str) -> dict[str, Any]:
    """What `flashmem-lab ARGV --json` says, run in a child process.

    Args:
        cache: where packed weights and profiles are kept.
        argv: command and options.

    Raises:
        FlashMemError: it failed; with the end of what it wrote.
    """
    command = [sys.executable, "-m", "flashmem_lab", *argv, "--json"]
    environment = {**os.environ, "FLASHMEM_LAB_CACHE": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise FlashMemError(f"flashmem-lab {' '.join(argv)}: {done.stderr.strip()[-500:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said
