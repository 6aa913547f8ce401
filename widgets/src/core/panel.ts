/** What is known of the node that is selected, in words. */

import { h } from "./dom";
import type { Section } from "./model";

export class Panel {
  readonly element = h("aside", { class: "fml-panel", "aria-label": "Selected node" });

  constructor() {
    this.hint();
  }

  hint(): void {
    this.element.replaceChildren(
      h("p", { class: "fml-soft" }, "Select a node to see its shapes, weights and kernel."),
      h(
        "p",
        { class: "fml-soft" },
        "Click into the graph, then scroll to zoom and drag to move. Double click opens and " +
          "closes a group. Keys: arrows move along edges, Enter opens or closes a group, + and − " +
          "zoom, 0 shows all, / searches, Escape lets go.",
      ),
    );
  }

  /** Shows `sections` under a heading; `busy` while more is asked for. */
  show(heading: string, kind: string, sections: Section[], busy = false): void {
    this.element.replaceChildren(h("h4", {}, heading), h("p", { class: "fml-soft" }, kind));
    if (busy) this.element.append(h("p", { class: "fml-soft" }, "asking for details …"));
    for (const section of sections) {
      const rows = section.rows.map(([name, value]) =>
        h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)),
      );
      this.element.append(h("table", {}, h("caption", {}, section.title), h("tbody", {}, ...rows)));
    }
  }
}
