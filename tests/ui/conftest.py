"""A JupyterLab of the test's own and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from flashmem_lab.runtime.adb.build import Target, build_agent
from flashmem_lab.runtime.adb.link import local_abi
from flashmem_lab.views.static import static
from tests.remote.adb_server import Adb

# No GPU, no sandbox as root, and nothing that calls home.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ROOT = Path(__file__).parents[2]
_HOST = "http://widgets.test"
_TOKEN = "first-look"
_START_SECONDS = 120
_PATIENCE_MS = 30_000  # for what should be seen at once, on a machine that is busy

SECOND = 1000  # ms, the unit of Playwright's timeouts
# Said by JupyterLab itself on a fresh machine, whatever runs in it; and by the browser of a kernel
# that a test killed and of a file that it broke. On a busy machine Lab takes its splash away twice.
_HARMLESS = (
    *("favicon", "status of 404", "status of 422", "ResizeObserver", "WebSocket"),
    "Failed to execute 'removeChild' on 'Node'",
    # Of ipywidgets and Lab, to a kernel that a test shut down or killed.
    *("Could not send widget sync message", "Canceled future for create_subshell_request"),
)


@dataclass(frozen=True, slots=True)
class Lab:
    """A JupyterLab that runs.

    Attributes:
        url: of the page, with its token.
        folder: what it serves.
        log: what the server said.
        cache: where it and its kernels keep what they make.
        adb: that it and its kernels find phones with.
    """

    url: str
    folder: Path
    log: Path
    cache: Path
    adb: Adb


@pytest.fixture(scope="module")  # while it is open no other test can start an event loop
def browser() -> Iterator[Browser]:
    """Debian's Chromium; its absence is a failure, `make test` installs it."""
    executable = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if executable is None:
        pytest.fail(f"no browser for the tests of what people see ({', '.join(_NAMES)}); make test")
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable, headless=True, args=list(_FLAGS)
        )
        yield running
        running.close()


@pytest.fixture
def bare_page(browser: Browser) -> Iterator[Page]:
    """A page that serves the widgets' modules; a fault in its console fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    faults: list[str] = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name.endswith(".js"):
            route.fulfill(content_type="text/javascript", body=static(name))
        else:
            style = f"<style>body {{ margin: 0 }} {static('base.css')}</style>"
            route.fulfill(content_type="text/html", body=f"<link rel=icon href=data:,>{style}")

    page.route(f"{_HOST}/**", serve)
    page.goto(_HOST)
    yield page
    page.close()
    assert faults == []


@contextmanager
def lab_page(browser: Browser, lab: Lab, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page that shows JupyterLab; a fault in its console that is not Lab's own fails the test."""
    page = browser.new_page(viewport={"width": width, "height": height})
    faults: list[str] = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(lab.url)
    ready(page)
    try:
        yield page
    finally:
        page.close()
    assert [fault for fault in faults if not any(word in fault for word in _HARMLESS)] == []


def drawn(page: Page) -> None:
    """Waits until what changed by now is on the screen."""
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def ready(page: Page) -> None:
    """Waits until JupyterLab can be used."""
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=90 * SECOND)
    page.evaluate("() => window.jupyterapp.restored")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=90 * SECOND)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures go: $FLASHMEM_LAB_SHOTS, or a folder that pytest keeps for a while."""
    folder = Path(os.environ.get("FLASHMEM_LAB_SHOTS") or tmp_path / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")  # it takes ten seconds to start
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a free loopback port, with settings, caches and notebooks of its own."""
    tmp_path = tmp_path_factory.mktemp("lab")
    folder, log = tmp_path / "notebooks", tmp_path / "lab.log"
    shutil.copytree(_ROOT / "notebooks", folder)
    port = _free_port()
    adb = Adb.of(tmp_path / "home")
    adb.home.mkdir()
    environment = {
        **os.environ,
        **adb.environment,
        "FLASHMEM_AGENT": str(build_agent(Target(local_abi()), tmp_path / "agent")),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_PREFER_ENV_PATH": "no",  # else an installed extension hides the checkout's own
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        "FLASHMEM_LAB_CACHE": str(tmp_path / "cache"),
    }
    _install_extension(tmp_path)
    _quieten(tmp_path / "settings")
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
                *(f"--IdentityProvider.token={_TOKEN}", f"--ServerApp.root_dir={folder}"),
                *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url="),
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            cwd=_ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/api?token={_TOKEN}", log)
        yield Lab(
            f"http://127.0.0.1:{port}/lab?token={_TOKEN}&reset",
            folder,
            log,
            tmp_path / "cache",
            adb,
        )
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        adb("kill-server")


def _install_extension(tmp_path: Path) -> None:
    """The checkout's own build, whatever is installed in the environment."""
    built, extensions = _ROOT / "flashmem_lab" / "labextension", tmp_path / "data" / "labextensions"
    if not (built / "package.json").is_file():
        pytest.fail("the front end is not built; make test does it")
    extensions.mkdir(parents=True)
    (extensions / "flashmem-lab").symlink_to(built)
    configuration = tmp_path / "config" / "jupyter_server_config.d"
    configuration.mkdir(parents=True)
    shutil.copy(_ROOT / "widgets" / "server-config.json", configuration / "flashmem_lab.json")


def _quieten(settings: Path) -> None:
    """No questions about news, which would cover the page."""
    plugin = settings / "@jupyterlab" / "apputils-extension"
    plugin.mkdir(parents=True)
    (plugin / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")
