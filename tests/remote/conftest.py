"""Fixtures: the real adb, and devices on loopback for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flashmem_lab.runtime.adb.build import Target, build_agent
from flashmem_lab.runtime.adb.link import local_abi
from tests.remote.adb_server import COMMANDS, Adb
from tests.remote.fake_adbd import Daemon, Phone


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent for this machine: phones of the tests say that they run Android, and are it."""
    return build_agent(Target(local_abi()), tmp_path_factory.mktemp("agent"))


@pytest.fixture(scope="module")
def adb(agent: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    """The adb of this process' environment; its server is ended afterwards, and no other."""
    found = Adb.of(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLASHMEM_AGENT", str(agent))
        for name, value in found.environment.items():
            patch.setenv(name, value)
        found("start-server")
        yield found
        found("kill-server")


@pytest.fixture
def attach(adb: Adb, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Connects another device; keywords are those of `Phone`."""
    daemons: list[Daemon] = []

    def attach(*, commands: Mapping[str, str] | None = None, **more: Any) -> Daemon:
        root = (tmp_path / f"phone{len(daemons)}").resolve()
        daemons.append(adb.attach(Phone(root, {**COMMANDS, **(commands or {})}, **more)))
        return daemons[-1]

    yield attach
    for daemon in daemons:
        adb.detach(daemon)


@pytest.fixture
def phone(attach: Callable[..., Daemon]) -> Daemon:
    """A device that works."""
    return attach()
