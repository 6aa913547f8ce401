"""The schedule view alone in a page: what pointer and keyboard ask for, and what is said back."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from flashmem_lab import workflow
from flashmem_lab.plan import Plan
from flashmem_lab.units import Budget
from flashmem_lab.views.engine import preview
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.zoo import make

pytestmark = pytest.mark.ui

START = """async plan => {
  const bytes = new DataView(Uint8Array.from(atob(plan), c => c.charCodeAt(0)).buffer);
  const state = { plan: bytes, notes: {}, height: innerHeight - 2 };
  const heard = {}, asked = [];
  const model = {
    get: name => state[name], set: (name, value) => { state[name] = value; }, save_changes() {},
    on: (name, call) => { heard[name] = call; }, off() {}, send: message => asked.push(message),
  };
  const { default: widget } = await import("/schedule.js");
  const root = document.body.appendChild(document.createElement("div"));
  const stop = widget.render({ model, el: root });
  const say = notes => { state.notes = notes; heard["change:notes"](); };
  Object.assign(window, { asked, say, stop, view: root.querySelector(".fml-schedule").view });
}"""


@pytest.fixture
def plan(bare_page: Page, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan of ResNet-50 at a fifth of its scale, on the page."""
    path = make("resnet50", tmp_path_factory.getbasetemp() / "zoo")
    prepared = workflow.load(path, device=workflow.open_device("sim:adreno750"))
    made = workflow.make_plan(prepared, budget=Budget(share=0.2))
    sent = plan_data(prepared.model, made, preview(prepared, made))
    bare_page.evaluate(START, b64encode(sent).decode())
    return made


def asked(page: Page) -> dict[str, Any]:
    """The latest message to the kernel."""
    return page.evaluate("() => asked.at(-1)")  # type: ignore[no-any-return]


def test_a_weight_is_pinned_streamed_and_left(bare_page: Page, plan: Plan, shots: Path) -> None:
    page, life = bare_page, plan.streamed[-1]
    page.evaluate("name => view.select(name)", life.weight)
    words = page.get_by_role("status")
    expect(words).to_contain_text(f"loads from layer {life.load_at}, used at {life.first_use}")
    page.screenshot(path=shots / "schedule.png")
    for name, action in (
        ("Preload", "preload"),
        ("Stream", "stream"),
        ("Leave to the planner", "free"),
    ):
        page.get_by_role("button", name=name, exact=True).click()
        assert asked(page)["action"] == action
        assert asked(page)["weight"] == life.weight
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowLeft")
    earlier = {"action": "window", "first": life.load_at - 1, "last": life.load_at - 1}
    assert asked(page) == {"kind": "edit", "weight": life.weight, **earlier}
    page.keyboard.press("p")
    assert asked(page)["action"] == "preload"
    page.keyboard.press("ArrowUp")
    expect(words).not_to_contain_text(life.weight)


def test_a_load_is_dragged(bare_page: Page, plan: Plan) -> None:
    page = bare_page
    life = max(plan.streamed, key=lambda one: one.first_use)
    page.get_by_label("Search weights").fill(life.weight)
    page.evaluate("name => view.select(name)", life.weight)
    spot = page.evaluate(
        """layer => {
          const box = view.canvas.getBoundingClientRect();
          const head = view.canvas.clientHeight - (view.scroller.clientHeight - 158);
          return [box.x + view.x(layer + 0.5), box.y + head + 10, box.x + view.x(10.5)];
        }""",
        life.first_use,
    )
    page.mouse.move(spot[0], spot[1])
    page.mouse.down()
    page.mouse.move(spot[2], spot[1], steps=8)
    page.mouse.up()
    assert asked(page) == {
        "kind": "edit",
        "action": "window",
        "weight": life.weight,
        "first": 10,
        "last": 10,
    }


def test_what_was_refused_and_what_changed_is_said(
    bare_page: Page, plan: Plan, shots: Path
) -> None:
    page, weight = bare_page, plan.streamed[3].weight
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_disabled()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.evaluate(
        """weight => say({
          diff: [["Against the plan before:", ["peak 1 MB → 2 MB", "w now preloaded"]]],
          refused: [weight, "a budget of 1 MB is too small"], undo: true, redo: false,
        })""",
        weight,
    )
    expect(page.get_by_role("alert")).to_contain_text(f"{weight}: a budget of 1 MB is too small")
    expect(page.get_by_text("peak 1 MB → 2 MB")).to_be_visible()
    page.screenshot(path=shots / "schedule_refused.png")
    undo.click()
    assert asked(page) == {"kind": "move", "by": -1}
    page.get_by_role("application").focus()
    page.keyboard.press("Control+Shift+Z")
    assert asked(page) == {"kind": "move", "by": 1}
    page.evaluate("() => stop()")
    expect(page.locator(".fml-schedule")).to_have_count(0)
