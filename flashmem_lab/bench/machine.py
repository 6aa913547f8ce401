"""What a figure was measured on: it stands beside every table of a bench."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


def machine(packages: Iterable[str] = ()) -> dict[str, str]:
    """Processor, cores, system, date and the versions of Python, this package and `packages`."""
    versions = {name: metadata.version(name) for name in ("flashmem-lab", *packages)}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def sentence(facts: dict[str, str]) -> str:
    """The facts as a line below a table."""
    return ", ".join(
        value if name in ("date", "processor", "system") else f"{name} {value}"
        for name, value in facts.items()
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
