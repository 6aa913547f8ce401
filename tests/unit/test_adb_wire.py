"""The adb client against a scripted server: framing, refusals, what is read out of answers."""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import known_rates, simulated_devices
from flashmem_lab.errors import DeviceError
from flashmem_lab.runtime.adb import sync
from flashmem_lab.runtime.adb.client import Client, command_line, parse_devices
from flashmem_lab.runtime.adb.device import troubles
from flashmem_lab.runtime.adb.facts import parse_facts
from flashmem_lab.runtime.adb.health import parse_health
from flashmem_lab.runtime.adb.server import Address, find_adb, start_server

Ask = Callable[[Client], Awaitable[object]]


def served(script: bytes, ask: Ask) -> tuple[object, bytes]:
    """Answers every connection with `script`; what `ask` gave, and what the server was told."""
    told = bytearray()

    async def talk() -> object:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(script)
            while data := await reader.read(1 << 16):
                told.extend(data)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            client = Client(Address(port=server.sockets[0].getsockname()[1]))
            return await asyncio.wait_for(ask(client), 10)

    return asyncio.run(talk()), bytes(told)


def refused(script: bytes, ask: Ask, match: str) -> DeviceError:
    with pytest.raises(DeviceError, match=match) as caught:
        served(script, ask)
    return caught.value


LISTING = (
    "R5CT1234567            device usb:1-4.2 product:oriole model:Pixel_6 device:oriole "
    "transport_id:3\n"
    "192.168.1.5:5555       offline product:x model:y device:z transport_id:1\n"
    "0a388e93               unauthorized usb:3-1 transport_id:7\n"
    "FA7AX1A                no permissions (user in plugdev group; are your udev rules wrong?); "
    "see [http://developer.android.com/tools/device.html] usb:1-1 transport_id:9\n"
    "adb-1412 (2)._adb-tls-connect._tcp device product:p model:m device:d transport_id:11\n"
    "older\tdevice\n"
)


def test_a_listing_is_read_whatever_it_holds() -> None:
    script = b"OKAY" + b"%04x" % len(LISTING) + LISTING.encode()
    found, told = served(script, lambda client: client.devices())
    assert told == b"000ehost:devices-l"
    assert isinstance(found, list)
    assert [(one.serial, one.state.partition(" (")[0]) for one in found] == [
        ("R5CT1234567", "device"),
        ("192.168.1.5:5555", "offline"),
        ("0a388e93", "unauthorized"),
        ("FA7AX1A", "no permissions"),
        ("adb-1412 (2)._adb-tls-connect._tcp", "device"),
        ("older", "device"),
    ]
    assert found[0].facts["model"] == "Pixel_6"
    assert found[3].facts["transport_id"] == "9"


def test_two_devices_with_one_id_are_told_of() -> None:
    twice = parse_devices("one device transport_id:1\none device transport_id:2\ntwo device\n")
    assert [one.serial for one in twice] == ["one", "one", "two"]
    (error,) = troubles(twice).values()
    assert "one is the id of more than one device" in error.message
    assert "unplug" in error.hint


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_listing_breaks_the_reader(text: str) -> None:
    assert all(one.serial and one.state for one in parse_devices(text))


def test_devices_are_followed() -> None:
    lists = [b"a device\n", b"", b"a offline\n"]
    script = b"OKAY" + b"".join(b"%04x" % len(one) + one for one in lists)

    async def follow(client: Client) -> list[list[str]]:
        seen = []
        tracked = client.track()
        async for attached in tracked:
            seen.append([one.state for one in attached])
            if len(seen) == len(lists):
                break
        await tracked.aclose()
        return seen

    seen, told = served(script, follow)
    assert seen == [["device"], [], ["offline"]]
    assert told == b"0014host:track-devices-l"


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        ("device unauthorized.\nThis adb server's ...", "has not allowed", "accept its dialog"),
        ("device 'X' not found", "X is not there", "flashmem-lab devices"),
        ("device offline", "does not answer", "plug it in"),
        ("more than one device with serial", "more than one", "disconnect"),
        ("insufficient permissions for device", "may not be opened", "plugdev"),
        ("odd", "adb refused 'host:transport:X': odd", ""),
    ],
)
def test_a_refusal_says_what_to_do(said: str, words: str, hint: str) -> None:
    script = b"FAIL" + b"%04x" % len(said) + said.encode()
    error = refused(script, lambda client: client.run("X", ["true"]), words)
    assert hint in error.hint


def test_a_shell_command_is_framed_and_heard() -> None:
    packets = [(1, b"out"), (2, b"err"), (9, b"?"), (1, b"put"), (3, b"\x05")]
    script = b"OKAYOKAY" + b"".join(struct.pack("<BI", kind, len(d)) + d for kind, d in packets)
    done, told = served(script, lambda client: client.run("X", ["echo", "a b"]))
    assert told == b"0010host:transport:X" + b"0017shell,v2,raw:echo 'a b'" + b"\x04\0\0\0\0"
    assert (done.stdout, done.stderr, done.code) == (b"output", b"err", 5)  # type: ignore[attr-defined]


def test_a_connection_that_ends_early_is_an_error() -> None:
    async def drop(client: Client) -> object:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            asking = asyncio.create_task(Client(Address(port=listener.getsockname()[1])).devices())
            await asyncio.sleep(0.05)
            listener.accept()[0].close()
            return await asking

    refused(b"", drop, "was closed")


def test_something_else_on_the_port_is_told_from_adb() -> None:
    refused(b"HTTP/1.1 400", lambda client: client.devices(), "no adb server")


def test_what_a_device_says_of_a_file_is_not_trusted() -> None:
    file = struct.pack("<4s3I", b"STAT", 0o100644, 3, 0)
    chunk = struct.pack("<4sI", b"DATA", 1 << 30)

    async def pull(client: Client) -> object:
        return await sync.pull(client, "X", "/f", io.BytesIO(), 10)

    refused(b"OKAYOKAY" + file + chunk, pull, "breaks the sync protocol")
    refused(b"OKAYOKAY" + file + b"DATA\x0b\0\0\0elevenbytes", pull, "longer than 10")
    refused(b"OKAYOKAY" + file + b"FAIL\x04\0\0\0gone", pull, "gone")
    refused(b"OKAYOKAY" + struct.pack("<4s3I", b"STAT", 0o120777, 3, 0), pull, "not a file")


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
)
def test_a_shell_reads_the_words_that_were_meant(words: list[str]) -> None:
    assert shlex.split(command_line(["x", *words])) == ["x", *words]


def test_what_no_shell_can_be_told_is_refused() -> None:
    assert command_line(["x"], {"A": "b c"}) == "A='b c' x"
    for argv, env in ((["a\0"], {}), (["x"], {"A;B": "c"})):
        with pytest.raises(DeviceError, match="cannot be a command"):
            command_line(argv, env)


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, Address("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "6000"}, Address("127.0.0.1", 6000)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "host"}, Address("host", 5037)),
        ({"ADB_SERVER_SOCKET": "tcp:7000"}, Address("127.0.0.1", 7000)),
        ({"ADB_SERVER_SOCKET": "tcp:localhost:1"}, Address("127.0.0.1", 1)),
        ({"ADB_SERVER_SOCKET": "tcp:10.0.0.2:7000"}, Address("10.0.0.2", 7000)),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:7000"}, Address("::1", 7000)),
        ({"ADB_SERVER_SOCKET": "localfilesystem:/s"}, Address(path="/s")),
        ({"ADB_SERVER_SOCKET": "localabstract:s"}, Address(path="\0s")),
    ],
)
def test_the_server_is_where_adb_looks_for_it(environ: dict[str, str], address: Address) -> None:
    assert Address.of(environ) == address
    assert address.is_here == (address.host in ("127.0.0.1", "::1"))


@pytest.mark.parametrize(
    "environ",
    [
        {"ADB_SERVER_SOCKET": "vsock:1"},
        {"ADB_SERVER_SOCKET": "tcp:host"},
        {"ADB_SERVER_SOCKET": "tcp:70000"},
        {"ANDROID_ADB_SERVER_PORT": "0"},
        {"ANDROID_ADB_SERVER_PORT": "x"},
    ],
)
def test_an_address_that_is_none_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(DeviceError, match="no address"):
        Address.of(environ)


def test_adb_is_found_and_its_absence_said(tmp_path: Path) -> None:
    sdk = tmp_path / "platform-tools" / "adb"
    sdk.parent.mkdir()
    sdk.write_text("#!/bin/sh\necho cannot bind >&2\nexit 3\n")
    nowhere = {"PATH": str(tmp_path)}
    assert find_adb(nowhere) == ""
    with pytest.raises(DeviceError, match="no adb on this computer") as caught:
        start_server(Address(), nowhere)
    assert "apt-get install adb" in caught.value.hint
    sdk.chmod(0o755)
    assert find_adb({**nowhere, "ANDROID_HOME": str(tmp_path)}) == str(sdk)
    assert find_adb({"FLASHMEM_LAB_ADB": "none", "PATH": str(sdk.parent)}) == ""
    with pytest.raises(DeviceError, match=r"exit code 3\): cannot bind"):
        start_server(Address(), {**os.environ, "FLASHMEM_LAB_ADB": str(sdk)})
    with pytest.raises(DeviceError, match=r"no adb server answers at 10\.0\.0\.2"):
        start_server(Address("10.0.0.2"), {})


def test_a_board_without_android_is_known_by_uname() -> None:
    facts = parse_facts("X", "[uname]: [aarch64]\n[folder]: [/tmp]\n")
    assert (facts.abi, facts.system, facts.model) == ("arm64-v8a", "Linux", "")
    assert facts.folder == "/tmp/flashmem-lab"
    with pytest.raises(DeviceError, match="no folder"):
        parse_facts("X", "[uname]: [aarch64]\n")


def test_facts_of_a_phone_with_a_property_of_two_lines() -> None:
    said = (
        "[a]: [one\ntwo]\n[ro.product.manufacturer]: [OnePlus]\n"
        "[ro.product.model]: [OnePlus 12]\n[ro.product.cpu.abi]: [arm64-v8a]\n"
        "[ro.board.platform]: [pineapple]\n[ro.build.version.release]: [15]\n"
        "[uname]: [aarch64]\n[folder]: [/data/local/tmp]\n"
    )
    facts = parse_facts("X", said)
    assert (facts.model, facts.soc, facts.system) == ("OnePlus 12", "pineapple", "Android 15")


def test_health_where_little_can_be_read() -> None:
    assert parse_health("==thermal\n==battery\n") == {}
    zones = "zone 41000 cpu-1-0\nzone 52300 gpu\nzone -274000 off\nzone 900000 odd\n"
    assert parse_health(f"{zones}==thermal\n==battery\nlevel: 5\n") == {
        "thermal": "hottest zone gpu 52.3 °C",
        "battery": "5 %",
    }


def test_the_health_script_is_one_that_a_shell_takes() -> None:
    from flashmem_lab.runtime.adb.health import _SCRIPT

    done = subprocess.run(["sh", "-n", "-c", _SCRIPT], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_rates_of_a_phone_say_whose_they_are() -> None:
    known = simulated_devices()
    adreno = known_rates("QUALCOMM Adreno(TM)", "gpu", "OpenCL 3.0 Adreno(TM) 750 build 1")
    assert adreno.compute == known["sim:adreno750"].compute
    other = known_rates("Mali-G78", "gpu", "OpenCL 3.0 v1")
    assert other.disk.value == known["sim:adreno540"].disk.value
    assert "nobody measured Mali-G78: of an Adreno 540" in other.disk.source
    cpu = known_rates("pthread", "cpu")
    assert cpu.compute["reusable"].value == known["sim:pocl"].compute["reusable"].value
    assert "nobody measured pthread" in cpu.compute["reusable"].source
