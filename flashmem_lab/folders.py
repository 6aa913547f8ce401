"""Where the user's files are kept."""

from __future__ import annotations

import os
from pathlib import Path

_ENVIRONMENT = "FLASHMEM_LAB_CACHE"


def cache_directory() -> Path:
    """Weights, profiles and compiled kernels: $FLASHMEM_LAB_CACHE, or the user's cache folder."""
    if given := os.environ.get(_ENVIRONMENT):
        return Path(given)
    import platformdirs

    return platformdirs.user_cache_path("flashmem-lab") / "weights"


def state_directory() -> Path:
    """What people did in workbenches: a folder of $FLASHMEM_LAB_CACHE, or the user's own."""
    return _own("workbench")


def board_directory() -> Path:
    """Notices of the runs under way: a folder of $FLASHMEM_LAB_CACHE, or the user's own."""
    return _own("running")


def _own(name: str) -> Path:
    if given := os.environ.get(_ENVIRONMENT):
        return Path(given) / name
    import platformdirs

    return platformdirs.user_state_path("flashmem-lab") / name
