"""The adb client and a machine behind adb, with the real adb and its server."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb import sync
from flashmem_lab.runtime.adb.client import Client, trouble
from flashmem_lab.runtime.adb.host import AdbHost
from flashmem_lab.runtime.adb.link import LinkClosed
from tests.remote.adb_server import Adb
from tests.remote.fake_adbd import Daemon

NASTY = (
    "plain",
    "two words",
    "it's",
    'a "b" c',
    "$HOME `id` $(id)",
    "a;b|c&d>e<f",
    "*?[x]{y}~#!",
    "back\\slash",
    "new\nline",
    "-n",
    "",
    "été ✓",
)


def test_devices_and_what_the_server_knows_of_them(attach: Callable[..., Daemon]) -> None:
    good, shut = attach(), attach(allowed=False)
    found = {one.serial: one for one in asyncio.run(Client().devices())}
    assert found[good.serial].state == "device"
    assert found[good.serial].facts["model"] == "Loop"
    assert found[shut.serial].state in ("unauthorized", "authorizing")


def test_a_phone_that_was_not_allowed_says_what_to_do(attach: Callable[..., Daemon]) -> None:
    shut = attach(allowed=False)
    with pytest.raises(DeviceError, match=shut.serial) as caught:
        AdbHost(shut.serial)
    assert "accept its dialog" in caught.value.hint


def test_a_device_that_is_not_there(adb: Adb) -> None:
    with pytest.raises(DeviceError, match="R5CT is not there") as caught:
        AdbHost("R5CT")
    assert "flashmem-lab devices" in caught.value.hint


def test_a_daemon_of_old_android_is_refused(attach: Callable[..., Daemon]) -> None:
    with pytest.raises(DeviceError, match="too old"):
        AdbHost(attach(features=("cmd",)).serial)


def test_words_arrive_as_they_are(phone: Daemon) -> None:
    done = asyncio.run(Client().run(phone.serial, ["printf", "%s\\0", *NASTY]))
    assert done.stdout.decode().split("\0")[:-1] == list(NASTY)


def test_streams_are_apart_and_the_exit_code_arrives(phone: Daemon) -> None:
    done = asyncio.run(Client().run(phone.serial, ["sh", "-c", "echo out; echo err >&2; exit 42"]))
    assert (done.stdout, done.stderr, done.code) == (b"out\n", b"err\n", 42)


def test_a_command_that_takes_too_long_is_given_up(phone: Daemon) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceError, match="longer than"):
        asyncio.run(Client().run(phone.serial, ["sleep", "30"], seconds=0.3))
    assert time.monotonic() - began < 10


def test_facts_of_a_phone(phone: Daemon) -> None:
    facts = AdbHost(phone.serial).facts
    assert facts.model == "Maker Loop One"
    assert facts.soc == "LOOP8650"
    assert facts.system == "Android 14"
    assert facts.folder == str(phone.phone.root / "tmp" / "flashmem-lab")


def test_health_is_read_in_words(phone: Daemon) -> None:
    assert AdbHost(phone.serial).health() == {
        "thermal": "throttling light, GPU 43.5 °C, skin 36.1 °C",
        "battery": "87 %, 31.2 °C, on USB",
    }


def test_files_there_and_back_with_progress(phone: Daemon, tmp_path: Path) -> None:
    host = AdbHost(phone.serial)
    data = np.random.default_rng(1).bytes(5_000_001)
    local = tmp_path / "data"
    local.write_bytes(data)
    local.chmod(0o755)
    path = f"{host.folder}/it's a file"
    told: list[tuple[int, int]] = []
    assert not host.has(path, len(data))
    host.push(local, path, lambda done, total: told.append((done, total)))
    assert host.has(path, len(data))
    assert not host.has(path, len(data) - 1)
    assert Path(path).stat().st_mode & 0o111
    assert told[-1] == (len(data), len(data))
    assert len(told) > 10
    assert told == sorted(told)
    back = io.BytesIO()
    asyncio.run(sync.pull(Client(), phone.serial, path, back, limit=len(data)))
    assert back.getvalue() == data
    host.remove(path)
    assert not host.has(path, len(data))
    assert list(Path(host.folder).iterdir()) == []


def test_two_push_the_same_file_at_once(phone: Daemon, tmp_path: Path) -> None:
    host = AdbHost(phone.serial)
    local = tmp_path / "data"
    local.write_bytes(bytes(2_000_000))
    with ThreadPoolExecutor() as pool:
        pushed = [pool.submit(host.push, local, f"{host.folder}/data") for _ in range(4)]
        assert [one.result() for one in pushed] == [None] * 4
    assert [one.name for one in Path(host.folder).iterdir()] == ["data"]


def test_storage_that_is_full_leaves_nothing(attach: Callable[..., Daemon], tmp_path: Path) -> None:
    host = AdbHost(attach(room=1000).serial)
    local = tmp_path / "data"
    local.write_bytes(bytes(300_000))
    with pytest.raises(DeviceError, match="No space left") as caught:
        host.push(local, f"{host.folder}/data")
    assert "storage full" in caught.value.hint
    assert not host.has(f"{host.folder}/data", 300_000)


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/folder/", "/nul\0"])
def test_pull_takes_named_files_only(phone: Daemon, path: str) -> None:
    with pytest.raises(DeviceError, match="not the path"):
        asyncio.run(sync.pull(Client(), phone.serial, path, io.BytesIO(), limit=1))


def test_pull_follows_no_link_takes_no_folder_and_keeps_its_limit(phone: Daemon) -> None:
    root = phone.phone.root
    (root / "file").write_bytes(bytes(100_000))
    (root / "link").symlink_to(root / "file")
    for name in ("link", "tmp", "nothing"):
        with pytest.raises(DeviceError, match="not a file"):
            asyncio.run(sync.pull(Client(), phone.serial, f"{root}/{name}", io.BytesIO(), 10**6))
    taken = io.BytesIO()
    with pytest.raises(DeviceError, match="longer than"):
        asyncio.run(sync.pull(Client(), phone.serial, f"{root}/file", taken, 70_000))
    assert taken.tell() <= 70_000


def test_an_agent_is_fed_heard_and_ended(phone: Daemon) -> None:
    host = AdbHost(phone.serial)
    with closing(
        host.start(["sh", "-c", 'cat; echo "$WORD" >&2; exit 7'], {"WORD": "a b"})
    ) as link:
        data = np.random.default_rng(2).bytes(3_000_000)
        link.write(data[:10])
        assert link.read(10) == data[:10]
        link.write(data)
        assert link.read(len(data)) == data
        link.close()
        with pytest.raises(LinkClosed, match="exit code 7") as caught:
            link.read(1)
    assert caught.value.said == "a b\n"


def test_what_nobody_reads_waits_on_the_device(phone: Daemon) -> None:
    size = 30_000_000
    link = AdbHost(phone.serial).start(["head", "-c", str(size), "/dev/zero"], {})
    most = 0
    until = time.monotonic() + 1
    while time.monotonic() < until:
        most = max(most, len(link._output))
        time.sleep(0.01)
    assert 1_000_000 < most < 12_000_000
    assert sum(len(link.read(part)) for part in (10_000_000, 20_000_000)) == size
    with pytest.raises(LinkClosed, match="exit code 0"):
        link.read(1)
    link.close()


def test_an_agent_that_hears_nobody_is_killed(
    phone: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashmem_lab.runtime.adb.host._PATIENCE_S", 0.5)
    mark = phone.phone.root / "tmp" / "alive"
    script = f'while :; do : >"{mark}"; sleep 0.05; done'
    link = AdbHost(phone.serial).start(["sh", "-c", script], {})
    while not mark.exists():
        time.sleep(0.02)
    link.close()
    time.sleep(0.3)
    mark.unlink()
    time.sleep(0.3)
    assert not mark.exists()


def test_a_device_that_goes_is_told_of(phone: Daemon) -> None:
    link = AdbHost(phone.serial).start(["cat"], {})
    phone.drop()
    with pytest.raises(
        LinkClosed, match=r"went away .* (not connected any more|offline|was closed)"
    ):
        link.read(1)
    link.close()


def test_the_server_is_started_where_none_runs(adb: Adb) -> None:
    adb("kill-server")
    with pytest.raises(DeviceError, match="no adb server runs"):
        asyncio.run(_connect_only())
    assert asyncio.run(Client().devices()) == []


def test_several_start_the_server_at_once(adb: Adb) -> None:
    adb("kill-server")
    with ThreadPoolExecutor() as pool:
        lists = list(pool.map(lambda _: asyncio.run(Client().devices()), range(4)))
    assert lists == [[]] * 4


async def _connect_only() -> None:
    (await Client().connect(start=False)).close()


def test_states_have_words() -> None:
    assert trouble("X", "device") is None
    for state in ("unauthorized", "offline", "no permissions (udev); see [x]", "recovery", "odd"):
        error = trouble("X", state)
        assert error is not None
        assert error.hint
