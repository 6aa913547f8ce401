"""JupyterLab with the extension: files open by double click, kernels start, die and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from flashmem_lab import workflow
from flashmem_lab.trace.codec import save_trace
from flashmem_lab.units import Budget
from flashmem_lab.worker.sketch import preview
from tests.ui.conftest import SECOND, Lab, drawn, lab_page, ready
from tests.ui.test_first_look import budget_line, move_slider, peak
from tests.unit.small_models import write_chain

pytestmark = [pytest.mark.ui, pytest.mark.device, pytest.mark.slow]


@pytest.fixture
def page(lab: Lab, browser: Browser) -> Iterator[Page]:
    """JupyterLab with a model, a broken one and a trace; a console error fails the test."""
    write_chain(lab.folder / "net.onnx")
    (lab.folder / "broken.onnx").write_bytes(b"\x08\x09 this is not a model")
    prepared = workflow.load(lab.folder / "net.onnx", device=workflow.open_device("sim:adreno750"))
    plan = workflow.make_plan(prepared, budget=Budget(share=0.3))
    save_trace(preview(prepared, plan), lab.folder / "net.trace.json")
    with lab_page(browser, lab) as found:
        yield found


def double_click(page: Page, name: str) -> None:
    page.locator(".jp-DirListing-item", has_text=name).dblclick(timeout=30 * SECOND)


def shown_tab(page: Page) -> Locator:
    return page.locator(".jp-Document.jp-MainAreaWidget:not(.lm-mod-hidden) .fml-document")


def in_kernel(page: Page, code: str) -> None:
    """Runs code in the kernel of the tab that is shown, as another cell of it would."""
    page.evaluate(
        """code => void window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel
          .requestExecute({code}).done.catch(() => null)""",
        code,
    )


def opened(page: Page, name: str) -> Locator:
    """The workbench of a model in a tab of its own."""
    double_click(page, name)
    tab = shown_tab(page)
    expect(tab.get_by_role("button", name="Run")).to_be_visible(timeout=60 * SECOND)
    return tab


def theme(page: Page, name: str) -> None:
    """Changes Lab's theme and waits until it is there."""
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
    )
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", name)
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)  # it covers the page meanwhile
    drawn(page)


def run(tab: Locator, count: int) -> None:
    """Runs the model and waits for a line in the history, the `count`th."""
    button = tab.get_by_role("button", name="Run")
    expect(button).to_be_enabled()
    button.click()
    history = tab.locator("table.history tbody tr")
    expect(history).to_have_count(count, timeout=60 * SECOND)


def run_for_long(tab: Locator) -> None:
    """Starts a run that goes on until something ends it."""
    times = tab.get_by_label("times")
    times.fill("10000")
    times.press("Enter")
    tab.get_by_role("button", name="Run").click()
    expect(tab.get_by_text("holds").first).to_be_visible(timeout=30 * SECOND)  # a queue has one too


def pin_last_weight(page: Page, tab: Locator) -> None:
    """Asks for the last weight of the schedule to be preloaded, by keyboard."""
    tab.get_by_role("tab", name="Schedule").click()
    schedule = tab.locator(".fml-schedule")
    page.wait_for_function("() => document.querySelector('.fml-schedule')?.view?.rows.shown.length")
    schedule.get_by_role("application").focus()
    page.keyboard.press("End")
    expect(schedule.get_by_role("status")).to_contain_text("used at")
    page.keyboard.press("p")
    expect(schedule.get_by_role("status")).to_contain_text("asked: preload")


def expect_pinned(tab: Locator) -> None:
    """The edit of `pin_last_weight` holds."""
    tab.get_by_role("tab", name="Schedule").click()
    expect(tab.locator(".fml-schedule").get_by_role("button", name="Undo")).to_be_enabled(
        timeout=20 * SECOND
    )
    expect(tab.get_by_text("Against the planner's own:")).to_be_visible()


def test_a_model_is_opened_planned_edited_run_and_compared(page: Page, shots: Path) -> None:
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
        tab = opened(page, "net.onnx")
    assert graph.value.ok
    assert graph.value.body().startswith(b"FML1")
    assert fetched, "Lab asks for the file's name and size"
    bytes_of = [url for url in fetched if "content=0" not in url and "/checkpoints?" not in url]
    assert bytes_of == []

    expect(tab.get_by_text("30.0 %")).to_be_visible()
    move_slider(page, tab, 0.6)
    expect(tab.get_by_text("60.0 %")).to_be_visible()
    page.screenshot(path=shots / "lab_2_dragged.png")
    run(tab, 1)
    pin_last_weight(page, tab)
    page.screenshot(path=shots / "lab_3_pinned.png")
    run(tab, 2)
    expect(tab.get_by_text("ok,").first).to_be_visible()
    page.wait_for_function(
        "() => document.querySelector('.fml-memory').view.memory.measured.x.length > 9",
    )
    assert peak(page, "measured") == peak(page, "predicted")
    assert peak(page, "measured") <= budget_line(page)
    page.screenshot(path=shots / "lab_4_measured.png")
    tab.get_by_role("tab", name="Compare").click()
    comparison = tab.locator("table.comparison")
    expect(comparison).to_contain_text("difference")
    expect(comparison).to_contain_text("+0.0 %")  # the budget is the same
    page.screenshot(path=shots / "lab_5_compared.png")

    # What is on the screen is taken away as files, and as text that does the same.
    for name, file in (("Plan", "net.plan.json"), ("Report", "net.html"), ("Perfetto", "net.pft")):
        with page.expect_download() as download:
            tab.get_by_role("button", name=name, exact=True).click()
        assert download.value.suggested_filename.startswith(file)
    tab.get_by_role("button", name="Copy as CLI").click()
    expect(tab.locator(".fml-text")).to_contain_text("flashmem-lab run net.onnx --device ocl:0")
    expect(tab.locator(".fml-text")).to_contain_text("--preload w7")
    page.screenshot(path=shots / "lab_5_exports.png")

    theme(page, "JupyterLab Dark")
    page.screenshot(path=shots / "lab_5_dark.png")
    theme(page, "JupyterLab Light")

    # While it runs, memory is seen here, in the side panel and in the status bar.
    page.evaluate("() => window.jupyterapp.commands.execute('flashmem-lab:devices')")
    side = page.locator("#flashmem-lab-side")
    expect(side.get_by_text("✓").first).to_be_visible(timeout=60 * SECOND)
    expect(side.get_by_role("listitem").filter(has_text="net.onnx")).to_contain_text("idle")
    status = page.locator("#jp-main-statusbar")
    expect(status).to_contain_text("FlashMem: ocl:0")
    run_for_long(tab)
    expect(side.get_by_text("holds")).to_be_visible()
    expect(status).to_contain_text("ocl:0 · net ·")
    page.screenshot(path=shots / "lab_6_running.png")
    side.get_by_role("button", name="Stop").click()
    expect(tab.get_by_text("stopped; plan and edits")).to_be_visible()
    expect(side.get_by_text("No run is under way.")).to_be_visible()

    # Two models under one cap, beside the same ones one after another.
    tab.get_by_role("tab", name="Queue").click()
    tab.get_by_label("Model", exact=True).fill("net.onnx")
    tab.get_by_role("button", name="Add").click()
    tab.get_by_role("button", name="Run queue").click()
    expect(tab.get_by_text("one after another, greedy")).to_be_visible(timeout=60 * SECOND)
    tab.get_by_text("one after another, greedy").scroll_into_view_if_needed()
    page.screenshot(path=shots / "lab_6_queue.png")

    # The page is loaded again: the same kernel has the same workbench.
    page.reload()
    ready(page)
    expect(tab.locator("table.history tbody tr")).to_have_count(2, timeout=60 * SECOND)
    expect_pinned(tab)

    double_click(page, "net.trace.json")
    expect(tab.get_by_text("predicted")).to_be_visible(timeout=30 * SECOND)
    expect(tab.get_by_role("img")).to_be_visible()
    assert page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.context.sessionContext.session === null"
    ), "a trace needs no kernel"
    page.screenshot(path=shots / "lab_7_trace.png")


def test_what_goes_wrong_is_said_and_no_edit_is_lost(
    lab: Lab, page: Page, tmp_path: Path, shots: Path
) -> None:
    double_click(page, "broken.onnx")
    tab = shown_tab(page)
    expect(tab.get_by_role("alert")).to_contain_text("damaged", timeout=60 * SECOND)
    expect(tab.get_by_role("button", name="Try again")).to_be_visible(timeout=60 * SECOND)
    page.screenshot(path=shots / "lab_8_broken.png")

    write_chain(lab.folder / "fragile.onnx")
    page.evaluate("() => window.jupyterapp.commands.execute('filebrowser:refresh')")
    tab = opened(page, "fragile.onnx")
    move_slider(page, tab, 0.5)
    expect(tab.get_by_text("50.0 %")).to_be_visible()
    pin_last_weight(page, tab)

    # The process that has the driver is killed amid a run; the kernel does other work meanwhile.
    run_for_long(tab)
    in_kernel(
        page,
        "import os, signal; from flashmem_lab.worker import isolated; "
        "os.kill(isolated()._worker.pid, signal.SIGKILL)",
    )
    expect(tab.get_by_role("alert")).to_contain_text("died (killed by SIGKILL)")
    expect(tab.get_by_role("alert")).to_contain_text("run again")
    page.screenshot(path=shots / "lab_9_crashed.png")
    expect_pinned(tab)
    times = tab.get_by_label("times")
    times.fill("2")
    times.press("Enter")
    run(tab, 1)

    # The device vanishes: its driver is not found any more. Then it is back.
    run_for_long(tab)
    in_kernel(
        page,
        f"os.environ['OCL_ICD_VENDORS'] = {str(tmp_path)!r}; "
        "os.kill(isolated()._worker.pid, signal.SIGKILL)",
    )
    expect(tab.get_by_role("alert")).to_contain_text("died")
    device = tab.get_by_label("Device", exact=True)
    expect(device).to_contain_text("ocl:0 · not there now")
    tab.get_by_role("button", name="Run").click()
    expect(tab.get_by_role("alert")).to_contain_text("there is no OpenCL device")
    page.screenshot(path=shots / "lab_10_vanished.png")
    in_kernel(page, "del os.environ['OCL_ICD_VENDORS']")
    tab.get_by_title("look for devices again").click()
    expect(device).not_to_contain_text("not there now")
    times.fill("2")
    times.press("Enter")
    run(tab, 2)
    expect_pinned(tab)

    # The kernel dies: the graph stays, and the workbench comes back with budget and edits.
    in_kernel(page, "os._exit(11)")
    expect(tab.get_by_text("The kernel died")).to_be_visible(timeout=60 * SECOND)
    page.screenshot(path=shots / "lab_11_died.png")
    expect(tab.get_by_text("As it was left: a budget at 50.0 %, 1 edit")).to_be_visible(
        timeout=90 * SECOND
    )
    expect(tab.get_by_text("The kernel died and was started again")).to_be_visible()
    expect_pinned(tab)
    expect(tab.locator("table.history tbody tr")).to_have_count(2)  # the runs before it died
    page.screenshot(path=shots / "lab_12_back.png")
    run(tab, 3)

    # It is shut down: nothing pretends to be there, and another one has all of it again.
    session = "window.jupyterapp.shell.currentWidget.context.sessionContext"
    page.evaluate(f"() => void {session}.shutdown()")
    expect(tab.get_by_text("No kernel: choose one")).to_be_visible()
    expect(tab.get_by_role("button", name="Run")).to_have_count(0)
    page.evaluate(f"() => void {session}.changeKernel({{name: 'python3'}})")
    expect(tab.get_by_text("As it was left: a budget at 50.0 %, 1 edit")).to_be_visible(
        timeout=90 * SECOND
    )
    expect_pinned(tab)
