"""Every widget read by axe-core, in light and in dark: names, roles, contrast, keyboard."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flashmem_lab import workflow
from flashmem_lab.plan import Objective
from flashmem_lab.units import Budget
from flashmem_lab.views.address_data import address_data
from flashmem_lab.views.graph_data import graph_data
from flashmem_lab.views.memory_data import memory_data
from flashmem_lab.views.plan_data import plan_data
from flashmem_lab.views.planning import Scale
from flashmem_lab.views.sweep import Place, sweep_data
from flashmem_lab.worker.sketch import preview, sketch
from flashmem_lab.zoo import make
from tests.ui.conftest import Lab, drawn, lab_page
from tests.ui.test_lab import opened, run, theme
from tests.unit.small_models import write_chain

pytestmark = pytest.mark.ui

AXE = Path(__file__).parents[2] / "widgets/node_modules/axe-core/axe.min.js"

START = """async values => {
  const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const NONE = { weight: "", first: -1, last: -1 };
  const buffers = Object.fromEntries(Object.entries(values).map(([k, v]) => [k, bytes(v)]));
  const notes = {
    undo: true, redo: false, refused: ["w", "there is no room"], diff: [["Against it:", ["more"]]],
  };
  const state = {
    ...buffers, notes, against: "", hovered: NONE, chosen: NONE, selected: -1, height: 400,
    value: 30, moving: false, ends: [1e6, 1e7], percent: 30, mode: "time",
  };
  const model = {
    get: name => state[name], set() {}, save_changes() {}, on() {}, off() {}, send() {},
  };
  document.documentElement.lang = "en";
  document.title = "widgets";
  const main = document.body.appendChild(document.createElement("main"));
  main.append(Object.assign(document.createElement("h1"), { textContent: "Widgets" }));
  for (const name of ["budget", "memory", "graph", "schedule"]) {
    const { default: widget } = await import(`/${name}.js`);
    widget.render({ model, el: main.appendChild(document.createElement("div")) });
  }
}"""

FOUND = """async where => {
  const { violations } = await axe.run(where);
  return violations.map(({ id, nodes }) => [id, nodes.map(node => node.html).slice(0, 3)]);
}"""


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the widgets are sent for ResNet-50 at a third of its scale, as base64."""
    path = make("resnet50", tmp_path_factory.getbasetemp() / "zoo")
    prepared = workflow.load(path, device=workflow.open_device("sim:adreno750"))
    places = []
    for share in (0.0, 0.3, 1.0):
        plan = workflow.make_plan(prepared, budget=Budget(share=share))
        places.append(Place(100 * share, plan, sketch(preview(prepared, plan))))
    plan = places[1].plan
    predicted = preview(prepared, plan)
    scale = Scale(plan.min_budget_bytes, plan.preload_peak_bytes)
    sent = {
        "graph": graph_data(prepared.graph, prepared.model),
        "plan": plan_data(prepared.model, plan, predicted),
        "memory": memory_data(plan, predicted),
        "addresses": address_data(prepared.model, plan),
        "sweep": sweep_data(places, scale, Objective.COLD),
    }
    return {name: b64encode(data).decode() for name, data in sent.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    bare_page: Page, values: dict[str, str], shots: Path, scheme: Any
) -> None:
    page = bare_page
    page.emulate_media(color_scheme=scheme)
    page.add_style_tag(
        content=":root { color-scheme: light dark; background: light-dark(#fff, #111418); }"
    )
    page.evaluate(START, values)
    drawn(page)
    page.add_script_tag(path=AXE)
    found = page.evaluate(FOUND, {"include": [["html"]]})
    page.screenshot(path=shots / f"access_{scheme}.png", full_page=True)
    assert found == []


IN_TABS = {
    "Graph": ".fml-graph canvas",
    "Schedule": ".fml-schedule canvas",
    "Compare": ".js-plotly-plot .trace",
    "Queue": "button:has-text('Run queue')",
}
# Of JupyterLab's page what is ours: the tab's content, the side panel and the status item.
OURS = {"include": [[".fml-document"], ["#flashmem-lab-side"], [".fml-status-item"]]}


@pytest.mark.device
@pytest.mark.slow
@pytest.mark.parametrize("name", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_in_the_tab_of_a_model(
    lab: Lab, browser: Browser, shots: Path, name: str
) -> None:
    model = f"seen in {name}.onnx"
    write_chain(lab.folder / model)
    with lab_page(browser, lab, height=1400) as page:
        theme(page, name)
        page.evaluate("() => window.jupyterapp.commands.execute('flashmem-lab:devices')")
        tab = opened(page, model)
        run(tab, 1)
        run(tab, 2)
        page.add_script_tag(path=AXE)
        for title, seen in IN_TABS.items():
            tab.get_by_role("tab", name=title).click()
            expect(tab.locator(seen).first).to_be_visible()
            drawn(page)
            found = page.evaluate(FOUND, OURS)
            page.screenshot(path=shots / f"access_lab_{title}_{name.split()[1]}.png")
            assert found == [], title


def test_without_a_plan_every_widget_says_what_to_do(bare_page: Page, shots: Path) -> None:
    page = bare_page
    page.evaluate(START, dict.fromkeys(("graph", "plan", "memory", "addresses", "sweep"), ""))
    said = page.locator("[role=status]").all_text_contents()
    assert sum("There is no plan: move the budget" in text for text in said) == 2
    page.wait_for_function(
        """() => {
          const { context } = document.querySelector(".fml-graph").view.plane;
          return context.getImageData(9, 9, 1, 1).data.every(channel => channel === 255);
        }"""
    )
    page.screenshot(path=shots / "access_empty.png", full_page=True)
