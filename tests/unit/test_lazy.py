"""Packages that import their names when first used."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = tuple(f"flashmem_lab.{name}" for name in ("graph", "lower", "plan", "program", "trace"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_and_is_no_module_too(package: str) -> None:
    """A module of a name's own name would take its place, whoever is imported first."""
    module = import_module(package)
    offered = list(module.__all__)
    assert all(getattr(module, name) is not None for name in offered)
    assert not set(offered) & {found.name for found in pkgutil.iter_modules(module.__path__)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_reading_a_bundle_imports_no_planner_and_no_model() -> None:
    ours = "flashmem_lab.plan.planner flashmem_lab.lower.lowering flashmem_lab.trace.figures"
    wanted = f"{ours} onnx jinja2"
    code = (
        "from flashmem_lab.program import read_bundle; from flashmem_lab import workflow; "
        "import flashmem_lab.profiles, flashmem_lab.runtime.opencl, sys; "
        f"print(*set({wanted.split()!r}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
