"""The graph view alone in a page: how fast it is, and every way to move in it."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from flashmem_lab.views.details import node_details
from flashmem_lab.views.graph_data import graph_data
from flashmem_lab.views.static import static
from tests.ui.big_graph import big_graph
from tests.ui.conftest import SECOND, drawn

pytestmark = pytest.mark.ui

GRAPH = big_graph(5000)
ROUNDS = 5  # of a measurement, each held to the bound: in some of them the machine is busy

# Stands in for anywidget: the model that a widget's module is given.
START = """async ([graph, details]) => {
  const NONE = { weight: "", first: -1, last: -1 };
  const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const state = {
    graph: bytes(graph), plan: bytes(""), selected: -1, height: innerHeight - 2,
    hovered: NONE, chosen: NONE,
  };
  let answer = () => {};
  const model = {
    get: name => state[name], set: (name, value) => { state[name] = value; }, save_changes() {},
    on: (name, heard) => { if (name === "msg:custom") answer = heard; }, off() {},
    send: asked => answer({kind: "details", node: asked.node, sections: details}),
  };
  const { default: widget } = await import("/graph.js");
  const root = document.body.appendChild(document.createElement("div"));
  const began = performance.now();
  const stop = widget.render({ model, el: root });
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const took = performance.now() - began;
  Object.assign(window, { state, stop, view: root.querySelector(".fml-graph").view });
  return took;
}"""

# Pans and zooms for a while, a step in each frame; the time between frames, ms, sorted.
FRAMES = """async scale => {
  view.expand();
  view.plane.camera.scale = scale;
  const gaps = [];
  let last = await new Promise(requestAnimationFrame);
  for (let i = 0; i < 60; i++) {
    view.panNow(-3, -30, i % 2 ? 1.01 : 0.99);
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - last);
    last = now;
  }
  return gaps.sort((a, b) => a - b);
}"""


@pytest.fixture
def page(bare_page: Page) -> Page:
    return bare_page


def start(page: Page, graph: Any = GRAPH) -> float:
    """Shows a graph; what that took, ms, drawing included."""
    details = node_details(graph, None, 1)
    return float(page.evaluate(START, [b64encode(graph_data(graph)).decode(), details]))


def heading(page: Page) -> Any:
    return page.locator(".fml-panel h4")


def test_five_thousand_nodes_within_a_second(page: Page, shots: Path) -> None:
    rounds = []
    for _ in range(ROUNDS):
        whole = start(page)
        page.evaluate("() => view.expand()")
        page.evaluate("() => view.fit()")
        expect(page.get_by_role("status")).to_have_text(f"{len(GRAPH.nodes)} nodes")
        took = page.evaluate("() => view.panNow(0, 0) ?? view.took")
        rounds.append({"whole": whole, "all open": took["layout"] + took["draw"], **took})
        if max(rounds[-1].values()) < SECOND:
            break
        page.evaluate("() => stop()")
    (shots / "graph_times.json").write_text(json.dumps(rounds))
    assert max(rounds[-1].values()) < SECOND, rounds
    page.screenshot(path=shots / "graph_5000.png")


@pytest.mark.parametrize("scale", [1, 0.3, 0.05])
def test_ten_thousand_nodes_move_at_thirty_frames(page: Page, scale: float, shots: Path) -> None:
    start(page, big_graph(10_000))
    rounds = []
    for _ in range(ROUNDS):
        gaps = page.evaluate(FRAMES, scale)
        rounds.append(gaps[len(gaps) // 2])
        if rounds[-1] < SECOND / 30:
            break
    (shots / f"graph_frames_{scale}.json").write_text(json.dumps(gaps))  # ms, sorted
    assert rounds[-1] < SECOND / 30, rounds


def test_the_bundles_are_small() -> None:
    names = ("budget.js", "graph.js", "memory.js", "schedule.js", "base.css")
    assert sum(len(static(name)) for name in names) < 300_000


def test_blocks_open_and_close(page: Page, shots: Path) -> None:
    start(page)
    status = page.get_by_role("status")
    expect(status).to_contain_text(f" of {len(GRAPH.nodes)} nodes")
    page.get_by_role("button", name="Close all").click()
    closed = int((status.text_content() or "").split()[0])
    assert closed < 20
    page.get_by_role("button", name="Close repeats").click()
    page.screenshot(path=shots / "graph_blocks.png")
    once = int((status.text_content() or "").split()[0])
    blocks = blocks_of(GRAPH)
    assert once == len(GRAPH.nodes) - (blocks - 1) * (len(GRAPH.nodes) - 1) // blocks + blocks - 1


def test_the_keyboard_goes_everywhere(page: Page, shots: Path) -> None:
    start(page)
    canvas = page.get_by_role("application")
    canvas.focus()
    page.keyboard.press("Home")
    expect(heading(page)).to_have_text("gather_0")
    expect(page.locator(".fml-panel")).to_contain_text("layernormalization_1.weight")
    assert page.evaluate("() => state.selected") == 0
    page.keyboard.press("ArrowDown")
    expect(heading(page)).not_to_have_text("gather_0")
    page.keyboard.press("ArrowUp")
    expect(heading(page)).to_have_text("gather_0")
    page.keyboard.press("End")
    expect(heading(page)).to_have_text(f"model.layers.{blocks_of(GRAPH) - 1}")
    shown = page.get_by_role("status").text_content()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).not_to_have_text(shown or "")
    page.screenshot(path=shots / "graph_opened.png")
    page.keyboard.press("Escape")
    expect(heading(page)).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("softmax")
    expect(page.get_by_role("status")).to_contain_text(f"{blocks_of(GRAPH)} found")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(f"1 of {blocks_of(GRAPH)} found")
    expect(heading(page)).to_contain_text("softmax")
    page.screenshot(path=shots / "graph_search.png")


def blocks_of(graph: Any) -> int:
    return sum(1 for node in graph.nodes if node.op_type == "Softmax")


def test_it_takes_the_colours_of_a_dark_page(page: Page, shots: Path) -> None:
    start(page)
    ground = "() => view.plane.context.getImageData(2, 2, 1, 1).data[0]"
    assert page.evaluate(ground) == 255
    # As JupyterLab does it: the name first, the colours a moment later.
    page.evaluate("() => { document.body.dataset.jpThemeName = 'dark'; }")
    drawn(page)
    page.evaluate(
        """() => {
          const style = "body { --jp-layout-color1: #111; --jp-layout-color2: #222; "
            + "--jp-ui-font-color1: #eee; --jp-ui-font-color2: #aaa; --jp-border-color1: #555; }";
          const link = document.createElement("link");
          link.rel = "stylesheet";
          link.href = "data:text/css," + encodeURIComponent(style);
          document.body.append(link);
        }"""
    )
    page.wait_for_function(f"() => ({ground})() === 17")
    page.get_by_label("Colour by").select_option("weight")
    page.screenshot(path=shots / "graph_dark.png")


def test_it_lets_go_of_the_page(page: Page) -> None:
    start(page)
    page.evaluate("() => stop()")
    expect(page.locator(".fml-graph")).to_have_count(0)
