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
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.worker.sketch import preview
from flashmem_lab.zoo import make
from tests.ui.conftest import drawn

pytestmark = pytest.mark.ui

START = """async plan => {
  const bytes = new DataView(Uint8Array.from(atob(plan), c => c.charCodeAt(0)).buffer);
  const NONE = { weight: "", first: -1, last: -1 };
  const state = {
    plan: bytes, notes: {}, against: "", height: innerHeight - 2, hovered: NONE, chosen: NONE,
  };
  const heard = {}, asked = [];
  const model = {
    get: name => state[name], set: (name, value) => { state[name] = value; }, save_changes() {},
    on: (name, call) => { heard[name] = call; }, off() {}, send: message => asked.push(message),
  };
  const { default: widget } = await import("/schedule.js");
  const root = document.body.appendChild(document.createElement("div"));
  const stop = widget.render({ model, el: root });
  const say = notes => { state.notes = notes; heard["change:notes"](); };
  const tell = (name, value) => { state[name] = value; heard[`change:${name}`](); };
  const { view } = root.querySelector(".fml-schedule");
  Object.assign(window, { asked, say, state, stop, tell, view });
}"""


@pytest.fixture
def plan(bare_page: Page, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan of ResNet-50 at a fifth of its scale, on the page."""
    path = make("resnet50", tmp_path_factory.getbasetemp() / "zoo")
    prepared = workflow.load(path, device=workflow.open_device("sim:adreno750"))
    made = workflow.make_plan(prepared, budget=Budget(share=0.2))
    sent = plan_data(prepared.model, made, preview(prepared, made))
    bare_page.evaluate(START, b64encode(sent).decode())
    bare_page.wait_for_function("() => view.axis.width > 1")  # it knows its place by then
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


EDITS = (
    *("Preload", "Stream", "Earlier", "Later", "Not earlier", "Not later"),
    *("Leave to the planner", "Undo", "Redo", "Drop all edits"),
)


# 890 px are left of 1280 in JupyterLab beside its file browser, 640 beside both of its panels.
@pytest.mark.parametrize("width", [890, 640, 420])
def test_edits_stand_in_one_line(bare_page: Page, plan: Plan, shots: Path, width: int) -> None:
    page = bare_page
    page.set_viewport_size({"width": width, "height": 800})
    bar = page.get_by_role("toolbar", name="Edits")
    buttons = [bar.get_by_role("button", name=name, exact=True) for name in EDITS]
    boxes = [button.bounding_box() for button in buttons]
    page.screenshot(path=shots / f"schedule_{width}.png")
    assert len({box["y"] for box in boxes if box}) == 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes if box)


def test_what_is_selected_stays_in_sight(bare_page: Page, plan: Plan) -> None:
    page = bare_page
    page.get_by_role("application").focus()
    page.keyboard.press("End")
    row = "view.rows.indexOf(view.selected) * 20 - view.scroller.scrollTop"
    below = f"() => view.surface.height - 162 - 20 - ({row})"  # px from the row to the lower edge
    page.wait_for_function("() => view.rows.seen")
    assert abs(page.evaluate(below)) <= 1
    before = page.evaluate("() => view.surface.height")
    page.evaluate(
        "() => say({diff: [['Against:', ['more']]], refused: null, undo: true, redo: false})"
    )
    page.wait_for_function("before => view.surface.height < before", arg=before)
    assert abs(page.evaluate(below)) <= 1
    # Who scrolled away from it is left where they are.
    page.evaluate("() => { view.scroller.scrollTop = 0; }")
    page.wait_for_function("() => !view.rows.seen")
    page.evaluate("() => say({diff: [], refused: null, undo: true, redo: false})")
    page.wait_for_function("before => view.surface.height === before", arg=before)
    assert page.evaluate("() => view.scroller.scrollTop") == 0


def place(page: Page, plan: Plan, weight: str, layer: float) -> tuple[float, float]:
    """Where on the screen a weight's row is at a layer; the row is brought into sight."""
    page.evaluate("name => view.select(name)", weight)
    x, y = page.evaluate(
        """([weight, layer]) => {
          const { canvas, rows, scroller, places } = view;
          const box = canvas.getBoundingClientRect();
          const row = rows.indexOf(view.plan.weights.indexOf(weight));
          return [box.x + places.axis.x(layer), box.y + 162 + 20 * row + 10 - scroller.scrollTop];
        }""",
        [weight, layer],
    )
    return x, y


def drag(page: Page, start: tuple[float, float], x: float) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(x, start[1], steps=8)


def test_a_load_is_dragged(bare_page: Page, plan: Plan, shots: Path) -> None:
    page = bare_page
    life = max(plan.streamed, key=lambda one: one.first_use)
    start = place(page, plan, life.weight, life.first_use + 0.5)
    target = place(page, plan, life.weight, 10.5)[0]
    drag(page, start, target)
    expect(page.get_by_role("status")).to_contain_text("load from layer 10")
    page.screenshot(path=shots / "schedule_dragged.png")
    page.mouse.up()
    window = {"kind": "edit", "action": "window", "weight": life.weight}
    assert asked(page) == {**window, "first": 10, "last": 10}

    # With Shift it is a range at which the load may begin: all other layers are forbidden.
    page.keyboard.down("Shift")
    drag(page, place(page, plan, life.weight, 12.5), target)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert asked(page) == {**window, "first": 10, "last": 12}

    # Escape gives a drag up.
    count = page.evaluate("() => asked.length")
    drag(page, start, target)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.evaluate("() => asked.length") == count

    page.get_by_role("application").focus()
    page.evaluate("name => view.select(name)", life.weight)
    page.keyboard.press("[")
    assert asked(page) == {**window, "first": life.load_at, "last": life.first_use}
    page.keyboard.press("]")
    assert asked(page) == {**window, "first": 0, "last": life.load_at}


def test_what_is_pointed_at_is_told_and_shown(bare_page: Page, plan: Plan, shots: Path) -> None:
    page, life = bare_page, plan.streamed[-1]
    page.mouse.move(*place(page, plan, life.weight, life.first_use + 0.5))
    hovered = page.evaluate("() => state.hovered")
    assert hovered == {"weight": life.weight, "first": life.load_at, "last": life.last_use}
    x = page.evaluate("view.canvas.getBoundingClientRect().x + view.places.axis.x(7.5)")
    y = page.evaluate("view.canvas.getBoundingClientRect().y + 50")
    page.mouse.click(x, y)
    assert page.evaluate("() => state.chosen") == {"weight": "", "first": 7, "last": 7}

    # What was chosen in another view is selected here.
    first = plan.streamed[0]
    page.evaluate(
        "([weight, first]) => tell('chosen', { weight, first, last: first })",
        [first.weight, first.load_at],
    )
    expect(page.get_by_role("status")).to_contain_text(first.weight)
    page.get_by_role("combobox", name="Over").select_option("time")
    page.get_by_role("application").focus()
    page.keyboard.press("+")
    drawn(page)
    page.screenshot(path=shots / "schedule_over_time.png")
    page.get_by_role("combobox", name="Compare with").select_option("preload")
    assert page.evaluate("() => state.against") == "preload"


def test_what_was_refused_and_what_changed_is_said(
    bare_page: Page, plan: Plan, shots: Path
) -> None:
    page, weight = bare_page, plan.streamed[3].weight
    undo = page.get_by_role("button", name="Undo")
    drop = page.get_by_role("button", name="Drop all edits")
    for one in (undo, drop):
        expect(one).to_be_disabled()
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
    # It is said below the row that it is about, where that is seen.
    page.evaluate("name => view.select(name)", weight)
    page.wait_for_function(
        """weight => {
          const row = view.rows.indexOf(view.plan.weights.indexOf(weight));
          const at = 162 + 20 * (row + 1) - view.scroller.scrollTop;
          const box = document.querySelector(".fml-refused").getBoundingClientRect();
          return Math.abs(box.y - view.canvas.getBoundingClientRect().y - at) < 8;
        }""",
        arg=weight,
    )
    page.screenshot(path=shots / "schedule_refused.png")
    undo.click()
    assert asked(page) == {"kind": "move", "by": -1}
    drop.click()
    assert asked(page) == {"kind": "move", "by": 0}
    page.get_by_role("application").focus()
    page.keyboard.press("Control+Shift+Z")
    assert asked(page) == {"kind": "move", "by": 1}
    page.evaluate("() => stop()")
    expect(page.locator(".fml-schedule")).to_have_count(0)
