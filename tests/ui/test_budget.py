"""The budget of GPT-Neo-2.7B dragged in JupyterLab: previewed at once, confirmed by the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import ceil, inf
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flashmem_lab.bench.graphs import hollow_zoo_model
from tests.ui.conftest import SECOND, Lab, lab_page

pytestmark = [pytest.mark.ui, pytest.mark.device, pytest.mark.slow]

MODEL = "gptneo-2.7b"
PLACES = 17  # along the slider that are planned for beforehand
TARGETS = [round(2 + 96 * (at * 0.618 % 1), 1) for at in range(20)]  # percent, here and there
ROUNDS = 5  # at most; of each target the best counts
CONFIRMED = 200  # ms, which 95 of 100 stay below

# ms from the latest move of the slider to the kernel's plan on the screen, for each; and whatever
# the picture of memory said meanwhile.
WATCH = """() => {
  const took = { plan: [], moved: 0 }, said = [];
  const words = document.querySelector(".fml-memory [role=status]");
  new MutationObserver(() => said.push(words.textContent)).observe(
    words, { childList: true, characterData: true, subtree: true });
  document.addEventListener("input", event => {
    if (event.target.type === "range") took.moved = performance.now();
  }, true);
  document.addEventListener("fml-drawn", () => {
    if (took.moved) took.plan.push(performance.now() - took.moved);
    took.moved = 0;
  });
  Object.assign(window, { took, said });
}"""


@pytest.fixture
def page(lab: Lab, browser: Browser) -> Iterator[Page]:
    """JupyterLab with the model, whose weights are a hole: planning reads none."""
    hollow_zoo_model(MODEL, lab.folder)
    with lab_page(browser, lab, height=1000) as found:
        yield found


def drag(page: Page, slider: Any, percent: float) -> None:
    """From where the thumb is to another place, in steps as a hand makes them."""
    box = slider.bounding_box()
    at = float(slider.input_value())
    x0, x1 = (box["x"] + 8 + (box["width"] - 16) * value / 100 for value in (at, percent))
    y = box["y"] + box["height"] / 2
    page.mouse.move(x0, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x0 + (x1 - x0) * step / 8, y)
        page.wait_for_timeout(16)
    page.mouse.up()


def at(values: Sequence[float], share: float) -> float:
    """A percentile, by nearest rank."""
    return sorted(values)[ceil(share * len(values)) - 1]


def drag_around(page: Page, slider: Any) -> list[float]:
    """Drags to each of `TARGETS`, in haste and at leisure; ms until its plan is on the screen."""
    took = []
    for count, percent in enumerate(TARGETS):
        page.evaluate("() => { took.plan = []; }")
        drag(page, slider, percent)  # in which a hand that stops has the kernel asked as well
        page.wait_for_function("() => took.plan.length && !took.moved")
        took.append(float(page.evaluate("() => took.plan.at(-1)")))
        page.wait_for_timeout(40 * count if count % 2 else 20)
    return took


def test_the_plan_follows_the_pointer(page: Page, shots: Path) -> None:
    page.evaluate(
        "path => window.jupyterapp.commands.execute('docmanager:open', {path})", f"{MODEL}.onnx"
    )
    slider = page.get_by_role("slider", name="Memory budget")
    expect(slider).to_be_visible(timeout=90 * SECOND)
    marks = page.locator(".fml-marks button")
    expect(marks.first).to_contain_text("least", timeout=60 * SECOND)
    page.wait_for_function(  # every place along the slider was planned for
        f"() => document.querySelector('.fml-budget').view.sweep.percent.length === {PLACES}",
        timeout=60 * SECOND,
    )
    page.screenshot(path=shots / "budget_1_opened.png")
    page.evaluate(WATCH)

    # While the button is down the preview is seen and the kernel is asked.
    box = slider.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8 + 0.3 * (box["width"] - 16), y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], y)
    page.screenshot(path=shots / "budget_2_preview.png")
    page.wait_for_function("() => said.some(words => words.startsWith('about'))")
    page.wait_for_function("() => said.at(-1).includes('predicted')")
    page.mouse.up()

    # What is slow of itself is slow in every round; what the machine did meanwhile is not.
    rounds: list[list[float]] = []
    best: list[float] = []
    while len(rounds) < ROUNDS and at(best or [inf], 0.95) >= CONFIRMED:
        rounds.append(drag_around(page, slider))
        best = [min(times) for times in zip(*rounds, strict=True)]
    figures = {"median": at(best, 0.5), "p95": at(best, 0.95), "most": max(best), "rounds": rounds}
    (shots / "budget_times.json").write_text(json.dumps(figures))
    assert figures["p95"] < CONFIRMED, figures
    page.screenshot(path=shots / "budget_3_dragged.png")
