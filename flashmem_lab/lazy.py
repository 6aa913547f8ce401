<<<<<<< HEAD
"""Packages whose names are imported when first used.

Value types are wanted by stages that must not pay for the rest of the package they live in: a run
from a bundle needs a plan's timeline, and no planner.
"""

from __future__ import annotations

import sys
=======
"""Packages whose names are imported when first used: a cold start pays for what it runs."""

from __future__ import annotations

>>>>>>> main
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


<<<<<<< HEAD
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
=======
def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its name.
        homes: the names of each of its modules that the package offers as its own.
    """
    module_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name]), name)
>>>>>>> main

    return find
