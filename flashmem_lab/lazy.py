"""Packages whose names are imported when first used.

Value types are wanted by stages that must not pay for the rest of the package they live in: a run
from a bundle needs a plan's timeline, and no planner.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_first_use(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: imports a name's module when the name is first asked for.

    No name may be that of a submodule too: once that is imported, Python finds it instead.

    Args:
        package: its `__name__`.
        homes: the names that each of its submodules gives to the package.
    """
    modules = {name: f"{package}.{home}" for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, found)  # found without this function from now on
        return found

    return find
