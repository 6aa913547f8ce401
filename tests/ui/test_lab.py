"""JupyterLab with the extension: files open by double click, kernels start, die and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from flashmem_lab import workflow
from flashmem_lab.trace.codec import save_trace
from flashmem_lab.units import Budget
from flashmem_lab.views.engine import preview
from tests.ui.conftest import Lab
from tests.unit.small_models import write_chain

pytestmark = [pytest.mark.ui, pytest.mark.device, pytest.mark.slow]

SECOND = 1000  # ms, the unit of Playwright's timeouts
# Said by JupyterLab itself on a fresh machine, whatever runs in it; and by the browser of a kernel
# that a test killed and of a file that it broke.
HARMLESS = ("favicon", "status of 404", "status of 422", "ResizeObserver", "WebSocket")


@pytest.fixture
def page(lab: Lab, browser: Browser) -> Iterator[Page]:
    """JupyterLab with a model, a broken one and a trace; a console error fails the test."""
    write_chain(lab.folder / "net.onnx")
    (lab.folder / "broken.onnx").write_bytes(b"\x08\x09 this is not a model")
    prepared = workflow.load(lab.folder / "net.onnx", device=workflow.open_device("sim:adreno750"))
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    save_trace(preview(prepared, plan), lab.folder / "net.trace.json")
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    found.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.goto(lab.url)
    ready(found)
    yield found
    found.close()
    assert [fault for fault in faults if not any(word in fault for word in HARMLESS)] == []


def ready(page: Page) -> None:
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=90 * SECOND)
    page.evaluate("() => window.jupyterapp.restored")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=90 * SECOND)


def double_click(page: Page, name: str) -> None:
    page.locator(".jp-DirListing-item", has_text=name).dblclick(timeout=30 * SECOND)


def test_files_open_run_survive_a_reload_and_a_dead_kernel(page: Page, shots: Path) -> None:
    fetched: list[str] = []

    def asked(request: Request) -> None:
        if "net.onnx" in request.url and "/api/contents/" in request.url:
            fetched.append(request.url)

    page.on("request", asked)
    expect(page.locator(".jp-LauncherCard", has_text="FlashMem Lab")).to_be_visible(
        timeout=30 * SECOND
    )
    page.screenshot(path=shots / "lab_1_launcher.png")

    # The graph comes from the server; how long it is seen depends on how fast the kernel starts.
    with page.expect_response("**/flashmem-lab/graph?*", timeout=60 * SECOND) as graph:
        double_click(page, "net.onnx")
    assert graph.value.ok
    assert graph.value.body().startswith(b"FML1")
    tab = page.locator(".jp-Document.jp-MainAreaWidget:not(.lm-mod-hidden) .fml-document")
    run = tab.get_by_role("button", name="Run")
    expect(run).to_be_visible(timeout=60 * SECOND)
    assert fetched, "Lab asks for the file's name and size"
    bytes_of = [url for url in fetched if "content=0" not in url and "/checkpoints?" not in url]
    assert bytes_of == []
    history = tab.locator("table.history tbody tr")
    for count in (1, 2):
        expect(run).to_be_enabled()
        run.click()
        expect(history).to_have_count(count, timeout=60 * SECOND)
    expect(tab.get_by_text("ok,").first).to_be_visible()
    page.screenshot(path=shots / "lab_3_workbench.png")
    tab.get_by_role("tab", name="Compare").click()
    comparison = tab.locator("table.comparison")
    expect(comparison).to_contain_text("difference")
    expect(comparison).to_contain_text("+0.0 %")  # the peak of the same plan
    page.screenshot(path=shots / "lab_3_compared.png")

    # The page is loaded again: the same kernel has the same workbench.
    page.reload()
    ready(page)
    expect(history).to_have_count(2, timeout=60 * SECOND)
    expect(run).to_be_enabled()

    double_click(page, "net.trace.json")
    expect(tab.get_by_text("predicted")).to_be_visible(timeout=30 * SECOND)
    expect(tab.get_by_role("img")).to_be_visible()
    page.screenshot(path=shots / "lab_4_trace.png")

    double_click(page, "broken.onnx")
    expect(tab.get_by_role("alert")).to_contain_text("damaged", timeout=60 * SECOND)
    expect(tab.get_by_role("button", name="Try again")).to_be_visible(timeout=60 * SECOND)
    page.screenshot(path=shots / "lab_5_broken.png")

    page.evaluate("() => window.jupyterapp.commands.execute('flashmem-lab:devices')")
    side = page.locator("#flashmem-lab-side")
    expect(side.get_by_text("✓").first).to_be_visible(timeout=60 * SECOND)
    expect(side).to_contain_text("net.onnx")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("FlashMem: ocl:0")
    page.screenshot(path=shots / "lab_6_devices.png")

    # The kernel dies: the graph stays, and the workbench comes back with the kernel.
    page.evaluate(
        "path => void window.jupyterapp.commands.execute('docmanager:open', {path})", "net.onnx"
    )
    expect(run).to_be_visible(timeout=60 * SECOND)
    page.evaluate(
        """() => void window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel
          .requestExecute({code: "import os; os._exit(11)"}).done.catch(() => null)"""
    )
    expect(tab.get_by_text("The kernel died")).to_be_visible(timeout=60 * SECOND)
    page.screenshot(path=shots / "lab_7_died.png")
    expect(run).to_be_visible(timeout=90 * SECOND)
    expect(tab.get_by_text("The kernel died")).to_have_count(0)
    expect(history).to_have_count(0)
