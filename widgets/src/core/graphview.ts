/** The graph of a model: drawn, searched, opened and closed, by pointer and by keyboard. */

import { type Brush, type Brushable, type BrushHost, NO_BRUSH, sameBrush } from "./brush";
import { nodesOf, spanOf } from "./brushed_nodes";
import { Colouring } from "./colouring";
import type { ColourBy } from "./colours";
import { button, h } from "./dom";
import { follow } from "./drag";
import { Folding } from "./folding";
import type { GraphModel, PlanModel, Section } from "./model";
import type { Look } from "./painter";
import { Panel } from "./panel";
import { Plane, type Spot } from "./plane";
import type { Scene } from "./scene";
import { Search } from "./search";
import { neighbour, type Way } from "./walk";

/** Where the view gets what it does not hold, and tells what was done in it. */
export interface GraphHost extends BrushHost {
  /** Words on a node; asked for when it is selected. */
  details(node: number): Promise<Section[]>;
  /** A node was selected, or -1. */
  selected(node: number): void;
}

const KEY_PAN = 60; // px

export class GraphView implements Brushable {
  readonly element = h("div", { class: "fml-graph", role: "group", "aria-label": "Model graph" });
  private readonly plane = new Plane((scene) => this.look(scene));
  private readonly panel = new Panel();
  private readonly live = h("div", { class: "fml-hidden", "aria-live": "polite" });
  private readonly search = new Search({
    found: () => this.plane.redraw(),
    goTo: (node) => this.goTo(node),
    left: () => this.plane.canvas.focus(),
  });
  private readonly colouring = new Colouring({
    repainted: () => this.plane.paint(this.colouring.painting),
    moment: (layer) => this.tell({ weight: "", first: layer, last: layer }),
  });
  private folding: Folding | undefined;
  private plan: PlanModel | undefined;
  private node = -1; // selected
  private group = -1; // selected
  private chosen: Brush = NO_BRUSH;
  private hovered: Brush = NO_BRUSH;
  constructor(
    parent: HTMLElement,
    private readonly host: GraphHost,
  ) {
    parent.append(this.element);
    this.build();
    this.listen();
  }

  dispose(): void {
    this.plane.dispose();
    this.element.remove();
  }

  private get scene(): Scene | undefined {
    return this.folding?.scene;
  }

  private get graph(): GraphModel | undefined {
    return this.folding?.graph;
  }

  /** What the last layout and the last drawing took, ms. */
  get took(): { layout: number; draw: number } {
    return { layout: this.folding?.took ?? 0, draw: this.plane.took };
  }

  // --- what is shown ---

  setGraph(graph: GraphModel): void {
    this.folding = new Folding(graph);
    this.node = this.group = -1;
    this.panel.hint();
    this.search.setGraph(graph);
    this.arranged();
  }

  setPlan(plan: PlanModel | undefined): void {
    this.plan = plan;
    this.colouring.setPlan(plan);
  }

  setHovered(brush: Brush): void {
    this.hovered = brush;
    this.plane.redraw();
  }

  /** Rings what a weight or layers chosen elsewhere are here; a moment colours by residency. */
  setChosen(brush: Brush): void {
    if (sameBrush(brush, this.chosen)) return;
    this.chosen = brush;
    if (brush.first >= 0 && this.plan) {
      this.colouring.colour(brush.weight ? undefined : "residency", brush.first);
    }
    const [node] = nodesOf(brush, this.graph, this.plan);
    if (node !== undefined && this.scene && this.node < 0) {
      this.plane.reveal(this.scene.visible.itemOf[node]!);
    }
    this.plane.redraw();
  }

  /** Selects a node, opening what it lies in. */
  select(node: number): void {
    const { folding } = this;
    if (!folding || node === this.node) return;
    this.node = node;
    this.group = -1;
    if (node < 0) {
      this.panel.hint();
      this.plane.redraw();
      return;
    }
    if (folding.openAround(node)) this.arranged();
    this.plane.reveal(folding.scene.visible.itemOf[node]!);
    this.describe(node);
  }

  /** Colours nodes by what `by` says; `step` is the layer whose moment is shown. */
  colour(by: ColourBy, step?: number): void {
    this.colouring.colour(by, step);
  }

  /** Opens every group. */
  expand(): void {
    this.fold((folding) => folding.openAll());
  }

  /** Shows the whole graph. */
  fit(): void {
    this.plane.fit();
  }

  /** Moves the window by CSS pixels and draws at once; for tests that count frames. */
  panNow(dx: number, dy: number, zoom = 1): void {
    this.plane.pan(dx, dy);
    this.plane.zoom(zoom);
    this.plane.draw();
  }

  // --- building ---

  private build(): void {
    const bar = h(
      "div",
      { class: "fml-bar", role: "toolbar", "aria-label": "Graph" },
      h("label", { class: "fml-field fml-search" }, this.search.input),
      this.search.count,
      this.colouring.choice,
      this.colouring.moment,
      button("Open all", "Open every group", () => this.expand()),
      button("Close repeats", "Close all but the first of each repeated block", () => {
        this.fold((folding) => folding.closeRepeats());
      }),
      button("Close all", "Close every group", () => {
        this.fold((folding) => folding.closeAll());
        this.fit();
      }),
      button("Show all", "Zoom so that the whole graph is seen (0)", () => this.fit()),
    );
    this.element.append(
      bar,
      this.colouring.legend,
      h("div", { class: "fml-body" }, this.plane.element, this.panel.element),
      this.live,
    );
  }

  private listen(): void {
    const { canvas } = this.plane;
    follow(canvas, () => ({
      move: (event) => this.plane.pan(event.movementX, event.movementY),
      end: (event, moved) => {
        if (!moved) this.choose(this.plane.itemAt(event));
      },
    }));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) this.point(this.plane.itemAt(event));
    });
    canvas.addEventListener("pointerleave", () => this.point(-1));
    canvas.addEventListener("dblclick", (event) => this.toggleAt(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  // --- drawing ---

  /** Opens or closes groups. */
  private fold(how: (folding: Folding) => void): void {
    if (!this.folding) return;
    how(this.folding);
    this.arranged();
  }

  /** Shows another scene. `keep` is a node to hold in place. */
  private arranged(keep?: Spot): void {
    const { folding } = this;
    if (!folding) return;
    const { scene } = folding;
    this.plane.show(scene, keep);
    this.search.say(scene.visible.items.length, folding.graph.names.length);
    this.colouring.setFolding(folding);
  }

  private look(scene: Scene): Look {
    const { itemOf } = scene.visible;
    const brushed = [this.chosen, this.hovered].flatMap((brush) =>
      nodesOf(brush, this.graph, this.plan),
    );
    const items = (nodes: Iterable<number>): Set<number> =>
      new Set(Array.from(nodes, (node) => itemOf[node]!));
    return {
      selected: this.current(),
      found: items(this.search.found),
      searching: this.search.active,
      brushed: items(brushed),
    };
  }

  // --- pointer ---

  /** Tells what the pointer is on. */
  private point(item: number): void {
    const brush = this.brushOf(item);
    if (sameBrush(brush, this.hovered)) return;
    this.setHovered(brush);
    this.host.hover(brush);
  }

  /** Selects what an item shows, a node or a closed group; -1 lets go. */
  private choose(item: number): void {
    const what = this.scene?.visible.items[item];
    this.tell(this.brushOf(item));
    if (what !== undefined && what >= 0) {
      this.select(what);
      this.host.selected(what);
      return;
    }
    this.node = this.group = -1;
    if (what === undefined) this.panel.hint();
    else {
      this.describeGroup(-1 - what);
      this.plane.reveal(item);
    }
    this.host.selected(-1);
    this.plane.redraw();
  }

  /** What the other views show of an item. */
  private brushOf(item: number): Brush {
    const what = this.scene?.visible.items[item];
    if (what === undefined) return NO_BRUSH;
    return spanOf(
      what >= 0 ? [what] : this.folding!.groups.all[-1 - what]!.nodes,
      this.graph!,
      this.plan,
    );
  }

  private tell(brush: Brush): void {
    if (sameBrush(brush, this.chosen)) return;
    this.chosen = brush;
    this.host.choose(brush);
  }

  private toggleAt(event: MouseEvent): void {
    if (!this.scene) return;
    const item = this.plane.itemAt(event);
    if (item >= 0) this.toggle(item);
    else this.close(this.scene.headAt(...this.plane.camera.toPlane(event.offsetX, event.offsetY)));
  }

  /** Opens a closed group; closes the one around a node. */
  private toggle(item: number): void {
    const { folding, scene } = this;
    if (!folding || !scene) return;
    const group = folding.groupOf(item);
    if (scene.visible.items[item]! >= 0) {
      this.close(group);
      return;
    }
    const keep = this.plane.spot(item, folding.nodeOf(item));
    folding.open(group);
    this.group = -1;
    this.arranged(keep);
    this.say(`opened ${folding.groups.all[group]!.path}`);
  }

  private close(group: number): void {
    const { folding } = this;
    if (group < 0 || !folding) return;
    const { path, nodes } = folding.groups.all[group]!;
    const node = nodes[0]!;
    const keep = this.plane.spot(folding.scene.visible.itemOf[node]!, node);
    folding.close(group);
    this.node = -1;
    this.arranged(keep);
    this.describeGroup(group);
    this.say(`closed ${path}`);
  }

  // --- keyboard ---

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.scene) return;
    const at = this.current();
    const walks: Record<string, () => void> = {
      ArrowDown: () => this.walk(at, "below"),
      ArrowUp: () => this.walk(at, "above"),
      ArrowLeft: () => this.walk(at, "left"),
      ArrowRight: () => this.walk(at, "right"),
      Home: () => this.choose(0),
      End: () => this.choose(this.scene!.visible.items.length - 1),
      Enter: () => at >= 0 && this.toggle(at),
      Escape: () => this.choose(-1),
      "+": () => this.plane.zoom(1.25),
      "=": () => this.plane.zoom(1.25),
      "-": () => this.plane.zoom(0.8),
      "0": () => this.fit(),
      "/": () => this.search.input.focus(),
    };
    const act = walks[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // Lab has its own meaning for some of these keys
    act();
    this.plane.redraw();
  }

  private current(): number {
    if (!this.scene) return -1;
    if (this.node >= 0) return this.scene.visible.itemOf[this.node]!;
    return this.group >= 0 ? this.scene.visible.items.indexOf(-1 - this.group) : -1;
  }

  private walk(from: number, way: Way): void {
    const scene = this.scene!;
    if (from < 0) {
      const seen = scene.itemsIn(this.plane.camera.window);
      if (seen.length) this.choose(Math.min(...seen));
      return;
    }
    const next = neighbour(scene, from, way);
    if (next >= 0) this.choose(next);
    else if (way === "left") this.plane.pan(KEY_PAN, 0);
    else if (way === "right") this.plane.pan(-KEY_PAN, 0);
  }

  // --- words ---

  private describe(node: number): void {
    const graph = this.graph!;
    const [heading, kind] = [graph.names[node]!, graph.ops[graph.op[node]!]!];
    this.say(`${kind} ${heading}`);
    this.panel.show(heading, kind, [], true);
    this.host.details(node).then(
      (sections) => {
        if (this.node === node) this.panel.show(heading, kind, sections);
      },
      (error: Error) => {
        const rows: [string, string][] = [["", error.message]];
        if (this.node === node) {
          this.panel.show(heading, kind, [{ title: "No details", rows }]);
        }
      },
    );
  }

  private describeGroup(group: number): void {
    const { path, nodes } = this.folding!.groups.all[group]!;
    this.group = group;
    const kind = "group, double click or Enter opens it";
    this.panel.show(path, kind, this.folding!.groups.describe(group));
    this.say(`group ${path}, ${nodes.length} nodes`);
  }

  private say(text: string): void {
    this.live.textContent = text;
  }

  /** Selects a node that was searched for, in the middle of the window. */
  private goTo(node: number): void {
    this.select(node);
    const item = this.scene!.visible.itemOf[node]!;
    this.plane.centre(item);
    this.tell(this.brushOf(item));
    this.host.selected(node);
    this.plane.redraw();
  }
}
