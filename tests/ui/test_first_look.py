"""The first notebook as people use it: run it, drag the budget, press Run, look at the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.ui.conftest import Lab

pytestmark = [pytest.mark.ui, pytest.mark.device, pytest.mark.slow]

NOTEBOOK = "01_first_look.ipynb"
SECOND = 1000  # ms, the unit of Playwright's timeouts
# Said by JupyterLab itself on a fresh machine, whatever runs in it.
HARMLESS = ("favicon", "the server responded with a status of 404", "ResizeObserver")


def open_notebook(page: Page, lab: Lab) -> None:
    page.goto(lab.url)
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=90 * SECOND)
    page.evaluate("() => window.jupyterapp.restored")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=90 * SECOND)
    page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', {path})", NOTEBOOK)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60 * SECOND)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
        "?.connectionStatus === 'connected'",
        timeout=60 * SECOND,
    )


def run_all_cells(page: Page) -> None:
    """Runs the notebook and waits until its kernel is idle again; a failed cell fails the test."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(page.locator(".jp-RenderedText[data-mime-type$='stderr']")).to_have_count(0)


def curve(page: Page, name: str) -> list[float]:
    """The drawn heights (MB) of a line of the workbench's figure over time."""
    return page.evaluate(
        """name => {
          const figure = document.querySelector(".widget-vbox .js-plotly-plot");
          const found = figure._fullData.slice(0, 7).find(trace => trace.name === name);
          return found ? Array.from(found.y) : [];
        }""",
        name,
    )


def budget_line(page: Page) -> float:
    return curve(page, "Budget")[0]


def move_slider(page: Page, bench: Locator, share: float) -> None:
    """Drags the handle of the budget slider to a share of its way, in small steps."""
    track = bench.locator(".widget-slider .noUi-base").bounding_box()
    handle = bench.locator(".widget-slider .noUi-handle").bounding_box()
    assert track is not None
    assert handle is not None
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], y, steps=25)
    page.mouse.up()


def test_the_budget_is_dragged_and_the_model_runs(lab: Lab, browser: Browser, shots: Path) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1250})
    faults: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(word in message.text for word in HARMLESS):
            faults.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        look(page, lab, shots)
    except BaseException:
        page.screenshot(path=shots / "failed.png")
        raise
    finally:
        page.close()
    assert faults == []


def look(page: Page, lab: Lab, shots: Path) -> None:
    open_notebook(page, lab)
    run_all_cells(page)
    bench = page.locator(".widget-vbox").first
    expect(bench.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=120 * SECOND)
    # The cell below the workbench ran it once by call; the last cell draws the schedule.
    expect(page.locator(".jp-OutputArea .js-plotly-plot")).to_have_count(2, timeout=120 * SECOND)
    expect(bench.locator("table.history tbody tr")).to_have_count(1, timeout=60 * SECOND)
    assert max(curve(page, "Total measured")) <= budget_line(page)

    plot, box = bench.locator(".main-svg").first.bounding_box(), bench.bounding_box()
    assert plot is not None
    assert box is not None
    assert plot["width"] > 0.95 * box["width"]

    bench.scroll_into_view_if_needed()
    before = budget_line(page)
    move_slider(page, bench, 0.6)
    page.wait_for_function(
        """before => {
          const figure = document.querySelector(".widget-vbox .js-plotly-plot");
          const budget = figure._fullData.find(trace => trace.name === "Budget").y[0];
          const [first] = figure._fullData.filter(trace => trace.name === "Total predicted");
          return budget > 2 * before && Math.max(...first.y) > 2 * before;
        }""",
        arg=before,
        timeout=20 * SECOND,
    )
    assert curve(page, "Total measured") == [], "what was measured belonged to another budget"
    page.screenshot(path=shots / "1_dragged.png")

    bench.get_by_role("button", name="Run").click()
    expect(bench.locator("table.history tbody tr")).to_have_count(2, timeout=120 * SECOND)
    expect(bench.get_by_role("button", name="Run")).to_be_enabled()
    page.wait_for_function(
        """() => document.querySelector(".widget-vbox .js-plotly-plot")
          ._fullData.some(trace => trace.name === "Total measured" && trace.y.length > 9)""",
        timeout=20 * SECOND,
    )
    measured, predicted = curve(page, "Total measured"), curve(page, "Total predicted")
    assert max(measured) == pytest.approx(max(predicted), rel=0.01)
    assert max(measured) <= budget_line(page)
    expect(bench.get_by_text("ok,").first).to_be_visible()
    page.screenshot(path=shots / "2_measured.png")

    bench.locator(".updatemenu-button", has_text="by layer").click()
    visible: list[Any] = page.evaluate(
        """() => document.querySelector(".widget-vbox .js-plotly-plot")
          ._fullData.map(trace => trace.visible)"""
    )
    assert visible[:7] == [False] * 7
    assert visible[7:13] == [True] * 6
    page.screenshot(path=shots / "3_by_layer.png")

    bench.get_by_role("tab", name="Graph").click()
    bench.get_by_label("Colour by").select_option("time")
    expect(bench.locator(".fml-graph .fml-legend")).to_contain_text("measured")
    graph = bench.locator(".fml-graph").get_by_role("application")
    graph.focus()
    page.keyboard.press("Home")
    expect(bench.locator(".fml-panel")).to_contain_text("On the device")
    page.screenshot(path=shots / "4_graph.png")

    bench.get_by_role("tab", name="Schedule").click()
    schedule = bench.locator(".fml-schedule")
    rows = schedule.get_by_role("application")
    for _ in range(40):  # the rows may still be on their way: keys before them select nothing
        rows.focus()
        page.keyboard.press("End")
        if schedule.get_by_text("used at").count():
            break
        page.wait_for_timeout(250)
    page.keyboard.press("p")
    expect(schedule.get_by_text("Against the plan before:")).to_be_visible(timeout=20 * SECOND)
    expect(schedule.get_by_role("status")).to_contain_text("asked: preload")
    schedule.get_by_role("button", name="Undo").click()
    expect(schedule.get_by_role("status")).not_to_contain_text("asked", timeout=20 * SECOND)
    page.screenshot(path=shots / "5_schedule.png")
