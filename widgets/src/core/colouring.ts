/** Which colours a graph has: the choice, the moment of residency, and the legend. */

import { COLOUR_BY, type ColourBy, type Painting, paint } from "./colours";
import { choice, h } from "./dom";
import type { Folding } from "./folding";
import type { PlanModel } from "./model";

export interface ColouringHost {
  /** Everything is painted anew. */
  repainted(): void;
  /** A layer was chosen, whose moment is shown. */
  moment(layer: number): void;
}

export class Colouring {
  readonly choice: HTMLElement;
  readonly legend = h("div", { class: "fml-legend" });
  painting: Painting = { fill: [], legend: [] };
  private readonly select: HTMLSelectElement;
  private readonly step = h("input", { type: "range", min: 0, max: 0, value: 0 });
  private readonly name = h("span", { class: "fml-soft" });
  readonly moment = h("label", { class: "fml-field", hidden: true }, "Layer", this.step, this.name);
  private by: ColourBy = "class";
  private plan: PlanModel | undefined;
  private folding: Folding | undefined;

  constructor(private readonly host: ColouringHost) {
    const { element, select } = choice("Colour by", COLOUR_BY, (by) => this.colour(by as ColourBy));
    this.choice = element;
    this.select = select;
    this.step.addEventListener("input", () => {
      host.moment(Number(this.step.value));
      this.repaint();
    });
  }

  setPlan(plan: PlanModel | undefined): void {
    this.plan = plan;
    this.step.max = String(Math.max(0, (plan?.layers.length ?? 1) - 1));
    if (this.by === "residency" || this.by === "time") this.repaint();
  }

  setFolding(folding: Folding): void {
    this.folding = folding;
    this.repaint();
  }

  /** Colours by what `by` says; `layer` is the one whose moment is shown. */
  colour(by: ColourBy = this.by, layer = Number(this.step.value)): void {
    this.by = by;
    this.select.value = by;
    this.step.value = String(layer);
    this.repaint();
  }

  repaint(): void {
    const { folding, plan } = this;
    if (!folding) return;
    const layer = Number(this.step.value);
    this.moment.hidden = this.by !== "residency" || !plan;
    this.name.textContent = plan ? `${layer}: ${plan.layers[layer] ?? ""}` : "";
    const { items } = folding.scene.visible;
    this.painting = paint(this.by, items, folding.graph, folding.groups, plan, layer);
    this.legend.replaceChildren(
      ...this.painting.legend.map(([colour, text]) =>
        h("span", {}, h("i", { style: `color:${colour}` }), text),
      ),
    );
    this.host.repainted();
  }
}
