"""Phones in the workbench and in the side panel, as they come and go, with no press of a button."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.remote.adb_server import COMMANDS
from tests.remote.fake_adbd import Daemon, Phone
from tests.ui.conftest import Lab
from tests.ui.test_lab import opened, page, run, run_for_long, theme  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.ui, pytest.mark.device, pytest.mark.slow]

SECOND = 1000  # ms


@pytest.fixture
def attach(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Connects another device; keywords are those of `Phone`."""
    daemons: list[Daemon] = []

    def attach(**more: Any) -> Daemon:
        root = (tmp_path / f"phone{len(daemons)}").resolve()
        daemons.append(lab.adb.attach(Phone(root, COMMANDS, **more)))
        return daemons[-1]

    yield attach
    for daemon in daemons:
        lab.adb.detach(daemon)


def test_phones_come_run_a_model_and_go(
    lab: Lab,
    page: Page,  # noqa: F811  (the fixture)
    attach: Callable[..., Daemon],
    shots: Path,
) -> None:
    tab = opened(page, "net.onnx")
    page.evaluate("() => window.jupyterapp.commands.execute('flashmem-lab:devices')")
    side = page.locator("#flashmem-lab-side")
    expect(side.get_by_text("✓").first).to_be_visible(timeout=60 * SECOND)
    picker = tab.get_by_label("Device", exact=True)

    good = attach()
    expect(picker).to_contain_text(f"adb:{good.serial} · Maker Loop One")
    expect(side).to_contain_text(f"✓ adb:{good.serial}")
    shut = attach(allowed=False)
    expect(side).to_contain_text(f"✗ adb:{shut.serial}")
    expect(side).to_contain_text("accept its dialog")
    expect(tab).to_contain_text(f"adb:{shut.serial}: has not allowed this computer")
    expect(picker).not_to_contain_text(f"adb:{shut.serial}")
    page.screenshot(path=shots / "phones_1_there.png")
    theme(page, "JupyterLab Dark")
    page.screenshot(path=shots / "phones_1_dark.png")
    theme(page, "JupyterLab Light")

    picker.select_option(label=picker.get_by_text(f"adb:{good.serial}").inner_text())
    times = tab.get_by_label("times")  # of the tests before this one, as is the history
    times.fill("2")
    times.press("Enter")
    run(tab, tab.locator("table.history tbody tr").count() + 1)
    ran = tab.locator("table.history tbody tr").filter(has_text=f"adb:{good.serial} fp32")
    expect(ran).to_have_count(1)  # beside runs of earlier tests, which the model remembers
    page.screenshot(path=shots / "phones_2_ran.png")

    # It is pulled out amid a run: that is said where the run was started, and nothing is lost.
    run_for_long(tab)
    good.drop()
    expect(tab.get_by_role("alert")).to_contain_text("the device went away amid its work")
    lab.adb.detach(shut)
    lab.adb.detach(good)
    expect(side).not_to_contain_text("adb:")
    expect(picker).to_contain_text(f"adb:{good.serial} · not there now")
    expect(ran).to_have_count(1)
    page.screenshot(path=shots / "phones_3_gone.png")
