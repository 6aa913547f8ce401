/** The graph of a model: drawn, searched, opened and closed, by pointer and by keyboard. */

import { Camera } from "./camera";
import { COLOUR_BY, type ColourBy, type Painting, paint } from "./colours";
import { button, choice, h } from "./dom";
import { Groups } from "./groups";
import { Minimap } from "./minimap";
import type { GraphModel, PlanModel, Section } from "./model";
import { drawScene } from "./painter";
import { Panel } from "./panel";
import { type Box, Scene } from "./scene";
import { readTheme, type Theme, watchTheme } from "./theme";
import { formatBytes } from "./units";

/** Where the view gets what it does not hold, and tells what was done in it. */
export interface GraphHost {
  /** Words on a node; asked for when it is selected. */
  details(node: number): Promise<Section[]>;
  /** A node was selected, or -1. */
  selected(node: number): void;
}

const OVERVIEW = 350; // items seen at first
const KEY_PAN = 60; // px

export class GraphView {
  readonly element = h("div", { class: "fml-graph", role: "group", "aria-label": "Model graph" });
  /** What the last layout and the last drawing took, ms. */
  readonly took = { layout: 0, draw: 0 };
  private readonly canvas = h("canvas", {
    class: "fml-canvas",
    tabindex: "0",
    role: "application",
    "aria-label": "Graph; arrow keys move from node to node along the edges",
  });
  private readonly context = this.canvas.getContext("2d", { alpha: false })!;
  private readonly camera = new Camera();
  private readonly minimap = new Minimap(this.camera, () => this.redraw());
  private readonly panel = new Panel();
  private readonly live = h("div", { class: "fml-hidden", "aria-live": "polite" });
  private readonly legend = h("div", { class: "fml-legend" });
  private readonly count = h("span", { class: "fml-soft", role: "status" });
  private readonly search = h("input", {
    type: "search",
    placeholder: "Search name, operator or scope",
    "aria-label": "Search the graph",
  });
  private readonly step = h("input", { type: "range", min: 0, max: 0, value: 0 });
  private readonly stepLabel = h("label", { class: "fml-field" }, "Layer", this.step);
  private readonly stepName = h("span", { class: "fml-soft" });
  private colourBy!: HTMLSelectElement; // made in build()
  private theme: Theme;
  private graph: GraphModel | undefined;
  private groups: Groups | undefined;
  private scene: Scene | undefined;
  private painting: Painting = { fill: [], legend: [] };
  private plan: PlanModel | undefined;
  private collapsed = new Set<number>();
  private by: ColourBy = "class";
  private node = -1; // selected
  private group = -1; // selected
  private found = new Set<number>(); // nodes
  private hit = -1;
  private fresh = true; // nothing was drawn in a window with a size yet
  private frame = 0;
  private readonly stops: (() => void)[] = [];

  constructor(
    parent: HTMLElement,
    private readonly host: GraphHost,
  ) {
    parent.append(this.element);
    this.theme = readTheme(this.element);
    this.build();
    this.listen();
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    for (const stop of this.stops) stop();
    this.element.remove();
  }

  // --- what is shown ---

  setGraph(graph: GraphModel): void {
    this.graph = graph;
    this.groups = new Groups(graph);
    this.collapsed = this.groups.overview(OVERVIEW);
    this.node = this.group = -1;
    this.fresh = true;
    this.panel.hint();
    this.arrange();
  }

  setPlan(plan: PlanModel | undefined): void {
    this.plan = plan;
    this.step.max = String(Math.max(0, (plan?.layers.length ?? 1) - 1));
    if (this.by === "residency" || this.by === "time") this.recolour();
  }

  /** Selects a node, opening what it lies in. */
  select(node: number): void {
    if (!this.graph || !this.groups || node === this.node) return;
    this.node = node;
    this.group = -1;
    if (node < 0) {
      this.panel.hint();
      this.redraw();
      return;
    }
    const around = [...this.groups.around(node)];
    if (around.some((group) => this.collapsed.has(group))) {
      for (const group of around) this.collapsed.delete(group);
      this.arrange();
    }
    const item = this.scene!.visible.itemOf[node]!;
    this.camera.reveal(this.scene!.box(item));
    this.describe(node);
    this.redraw();
  }

  /** Colours nodes by what `by` says; `step` is the layer whose moment is shown. */
  colour(by: ColourBy, step = Number(this.step.value)): void {
    this.by = by;
    this.colourBy.value = by;
    this.step.value = String(step);
    this.recolour();
  }

  /** Opens every group. */
  expand(): void {
    this.collapsed.clear();
    this.arrange();
  }

  /** Shows the whole graph. */
  fit(): void {
    if (!this.scene) return;
    this.camera.fit(this.scene.bounds);
    this.redraw();
  }

  /** Moves the window by CSS pixels and draws at once; for tests that count frames. */
  panNow(dx: number, dy: number, zoom = 1): void {
    this.camera.pan(dx, dy);
    this.camera.zoom(zoom, this.camera.width / 2, this.camera.height / 2);
    this.draw();
  }

  // --- building ---

  private build(): void {
    const colour = choice("Colour by", COLOUR_BY, (value) => this.colour(value as ColourBy));
    this.colourBy = colour.select;
    this.stepLabel.append(this.stepName);
    this.stepLabel.hidden = true;
    const bar = h(
      "div",
      { class: "fml-bar", role: "toolbar", "aria-label": "Graph" },
      h("label", { class: "fml-field fml-search" }, this.search),
      this.count,
      colour.element,
      this.stepLabel,
      button("Open all", "Open every group", () => this.expand()),
      button("Close repeats", "Close all but the first of each repeated block", () => {
        if (!this.groups) return;
        this.collapsed = this.groups.repeats();
        this.arrange();
      }),
      button("Close all", "Close every group", () => {
        if (!this.groups) return;
        this.collapsed = new Set(this.groups.all.keys());
        this.arrange();
        this.fit();
      }),
      button("Show all", "Zoom so that the whole graph is seen (0)", () => this.fit()),
    );
    const plane = h("div", { class: "fml-plane" }, this.canvas, this.minimap.canvas);
    this.element.append(
      bar,
      this.legend,
      h("div", { class: "fml-body" }, plane, this.panel.element),
      this.live,
    );
  }

  private listen(): void {
    const { canvas } = this;
    const resize = new ResizeObserver(() => this.resize());
    resize.observe(canvas);
    this.stops.push(
      () => resize.disconnect(),
      watchTheme(() => {
        this.theme = readTheme(this.element);
        this.recolour();
      }),
    );
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("dblclick", (event) => this.toggleAt(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.search.addEventListener("input", () => this.seek());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") {
        this.search.value = "";
        this.seek();
        canvas.focus();
      }
    });
    this.step.addEventListener("input", () => this.recolour());
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth === 0 || clientHeight === 0) return; // in a tab that is not seen
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.camera.width = clientWidth;
    this.camera.height = clientHeight;
    if (this.fresh && this.scene) {
      this.fresh = false;
      this.camera.top(this.scene.bounds);
    }
    this.theme = readTheme(this.element);
    this.recolour();
    this.draw();
  }

  // --- drawing ---

  /** Lays out what is seen now. `keep` is an item of the new scene to hold in place. */
  private arrange(keep?: { node: number; x: number; y: number }): void {
    if (!this.graph || !this.groups) return;
    const began = performance.now();
    this.scene = new Scene(this.graph, this.groups, this.collapsed);
    this.took.layout = performance.now() - began;
    if (keep) {
      const item = this.scene.visible.itemOf[keep.node]!;
      this.camera.x = keep.x - this.scene.place.x[item]! * this.camera.scale;
      this.camera.y = keep.y - this.scene.place.y[item]! * this.camera.scale;
    } else if (this.camera.width > 1) {
      this.fresh = false;
      this.camera.top(this.scene.bounds);
    }
    const seen = this.scene.visible.items.length;
    const all = this.graph.names.length;
    this.count.textContent = seen === all ? `${all} nodes` : `${seen} shown of ${all} nodes`;
    this.recolour();
  }

  private recolour(): void {
    if (!this.scene || !this.graph || !this.groups) return;
    const step = Number(this.step.value);
    this.stepLabel.hidden = this.by !== "residency" || !this.plan;
    this.stepName.textContent = this.plan ? `${step}: ${this.plan.layers[step] ?? ""}` : "";
    this.painting = paint(
      this.by,
      this.scene.visible.items,
      this.graph,
      this.groups,
      this.plan,
      step,
    );
    this.legend.replaceChildren(
      ...this.painting.legend.map(([colour, text]) =>
        h("span", {}, h("i", { style: `color:${colour}` }), text),
      ),
    );
    if (this.camera.width > 1) this.minimap.render(this.scene, this.painting, this.theme);
    this.redraw();
  }

  private redraw(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    if (!this.scene || this.camera.width <= 1) return;
    const began = performance.now();
    const { itemOf } = this.scene.visible;
    const selected =
      this.node >= 0
        ? itemOf[this.node]!
        : this.group >= 0
          ? this.scene.visible.items.indexOf(-1 - this.group)
          : -1;
    drawScene(
      this.context,
      this.scene,
      this.camera,
      this.painting,
      this.theme,
      {
        selected,
        found: new Set([...this.found].map((node) => itemOf[node]!)),
        searching: this.search.value.trim() !== "",
      },
      devicePixelRatio,
    );
    this.minimap.draw(this.theme);
    this.took.draw = performance.now() - began;
  }

  // --- pointer ---

  private wheel(event: WheelEvent): void {
    // A page that is scrolled over the graph goes on scrolling until the graph was clicked.
    if (!event.ctrlKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    if (event.shiftKey) this.camera.pan(-event.deltaY, 0);
    else this.camera.zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    this.redraw();
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    const { canvas } = this;
    canvas.setPointerCapture(event.pointerId);
    let moved = 0;
    const move = (next: PointerEvent): void => {
      moved += Math.abs(next.movementX) + Math.abs(next.movementY);
      if (moved < 4) return;
      this.camera.pan(next.movementX, next.movementY);
      this.redraw();
    };
    const release = (next: PointerEvent): void => {
      canvas.removeEventListener("pointermove", move);
      canvas.removeEventListener("pointerup", release);
      canvas.removeEventListener("pointercancel", release);
      if (next.type === "pointerup" && moved < 4) this.pick(next.offsetX, next.offsetY);
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
  }

  private pick(x: number, y: number): void {
    if (this.scene) this.choose(this.scene.itemAt(...this.camera.toPlane(x, y)));
  }

  /** Selects what an item shows, a node or a closed group; -1 lets go. */
  private choose(item: number): void {
    const what = this.scene?.visible.items[item];
    if (what !== undefined && what >= 0) {
      this.select(what);
      this.host.selected(what);
      return;
    }
    this.node = this.group = -1;
    if (what === undefined) this.panel.hint();
    else {
      this.describeGroup(-1 - what);
      this.camera.reveal(this.scene!.box(item));
    }
    this.host.selected(-1);
    this.redraw();
  }

  private toggleAt(event: MouseEvent): void {
    if (!this.scene) return;
    const point = this.camera.toPlane(event.offsetX, event.offsetY);
    const item = this.scene.itemAt(...point);
    if (item >= 0) this.toggle(item);
    else this.close(this.scene.headAt(...point));
  }

  /** Opens a closed group; closes the one around a node. */
  private toggle(item: number): void {
    if (!this.scene || !this.groups) return;
    const what = this.scene.visible.items[item]!;
    const group = what < 0 ? -1 - what : this.groups.of[what]!;
    if (what >= 0) {
      this.close(group);
      return;
    }
    const keep = this.spot(item);
    this.collapsed.delete(group);
    for (let child = group + 1; child < this.groups.all.length; child++) {
      if (this.groups.all[child]!.parent === group) this.collapsed.add(child);
    }
    this.group = -1;
    this.arrange(keep);
    this.say(`opened ${this.groups.all[group]!.path}`);
  }

  private close(group: number): void {
    if (group < 0 || !this.scene || !this.groups) return;
    const node = this.groups.all[group]!.nodes[0]!;
    const keep = { ...this.spot(this.scene.visible.itemOf[node]!), node };
    this.collapsed.add(group);
    this.node = -1;
    this.arrange(keep);
    this.describeGroup(group);
    this.say(`closed ${this.groups.all[group]!.path}`);
  }

  /** Where an item is on the screen, to hold it there. */
  private spot(item: number): { node: number; x: number; y: number } {
    const what = this.scene!.visible.items[item]!;
    const { scale, x, y } = this.camera;
    return {
      node: what >= 0 ? what : this.groups!.all[-1 - what]!.nodes[0]!,
      x: this.scene!.place.x[item]! * scale + x,
      y: this.scene!.place.y[item]! * scale + y,
    };
  }

  // --- keyboard ---

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.scene) return;
    const at = this.current();
    const [middleX, middleY] = [this.camera.width / 2, this.camera.height / 2];
    const walks: Record<string, () => void> = {
      ArrowDown: () => this.walk(at, "below"),
      ArrowUp: () => this.walk(at, "above"),
      ArrowLeft: () => this.walk(at, "left"),
      ArrowRight: () => this.walk(at, "right"),
      Home: () => this.choose(0),
      End: () => this.choose(this.scene!.visible.items.length - 1),
      Enter: () => at >= 0 && this.toggle(at),
      Escape: () => this.choose(-1),
      "+": () => this.camera.zoom(1.25, middleX, middleY),
      "=": () => this.camera.zoom(1.25, middleX, middleY),
      "-": () => this.camera.zoom(0.8, middleX, middleY),
      "0": () => this.fit(),
      "/": () => this.search.focus(),
    };
    const act = walks[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // Lab has its own meaning for some of these keys
    act();
    this.redraw();
  }

  private current(): number {
    if (!this.scene) return -1;
    if (this.node >= 0) return this.scene.visible.itemOf[this.node]!;
    return this.group >= 0 ? this.scene.visible.items.indexOf(-1 - this.group) : -1;
  }

  private walk(from: number, way: "above" | "below" | "left" | "right"): void {
    const scene = this.scene!;
    if (from < 0) {
      const { x0, y0, x1, y1 } = this.camera.window;
      const seen = scene.itemsIn({ x0, y0, x1, y1 } satisfies Box);
      if (seen.length) this.choose(Math.min(...seen));
      return;
    }
    const { edges } = scene.visible;
    const { x, rank } = scene.place;
    let best = -1;
    const offer = (item: number): void => {
      if (best < 0 || Math.abs(x[item]! - x[from]!) < Math.abs(x[best]! - x[from]!)) best = item;
    };
    if (way === "above" || way === "below") {
      for (let e = 0; e < edges.length; e += 2) {
        if (way === "below" && edges[e] === from) offer(edges[e + 1]!);
        if (way === "above" && edges[e + 1] === from) offer(edges[e]!);
      }
    } else {
      rank.forEach((value, item) => {
        const side = way === "right" ? x[item]! > x[from]! : x[item]! < x[from]!;
        if (value === rank[from] && side) offer(item);
      });
    }
    if (best >= 0) this.choose(best);
    else if (way === "left" || way === "right")
      this.camera.pan(way === "left" ? KEY_PAN : -KEY_PAN, 0);
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
    const { path, nodes, repeats, twin } = this.groups!.all[group]!;
    const graph = this.graph!;
    this.group = group;
    const bytes = nodes.reduce((sum, node) => sum + graph.weightBytes[node]!, 0);
    const rows: [string, string][] = [
      ["nodes", String(nodes.length)],
      ["weights", formatBytes(bytes)],
    ];
    if (repeats > 1) rows.push(["repeated", `${repeats} times`]);
    if (twin !== group) rows.push(["the same as", this.groups!.all[twin]!.path]);
    const counts = new Map<string, number>();
    for (const node of nodes) {
      const op = graph.ops[graph.op[node]!]!;
      counts.set(op, (counts.get(op) ?? 0) + 1);
    }
    const operators = [...counts].sort((a, b) => b[1] - a[1]);
    this.panel.show(path, "group, double click or Enter opens it", [
      { title: "Group", rows },
      { title: "Operators", rows: operators.map(([op, n]) => [op, String(n)]) },
    ]);
    this.say(`group ${path}, ${nodes.length} nodes`);
  }

  private say(text: string): void {
    this.live.textContent = text;
  }

  // --- search ---

  private seek(): void {
    const graph = this.graph;
    const text = this.search.value.trim().toLowerCase();
    this.found = new Set();
    this.hit = -1;
    if (graph && text) {
      const ops = graph.ops.map((op) => op.toLowerCase().includes(text));
      const scopes = graph.scopes.map((scope) => scope.toLowerCase().includes(text));
      graph.names.forEach((name, node) => {
        const hit = ops[graph.op[node]!] || scopes[graph.scope[node]!];
        if (hit || name.toLowerCase().includes(text)) this.found.add(node);
      });
    }
    this.count.textContent = text
      ? `${this.found.size} found${this.found.size ? ", Enter goes to the next" : ": try a part of the name"}`
      : `${graph?.names.length ?? 0} nodes`;
    this.redraw();
  }

  private next(by: number): void {
    const nodes = [...this.found];
    if (nodes.length === 0) return;
    this.hit = (this.hit + by + nodes.length) % nodes.length;
    const node = nodes[this.hit]!;
    this.select(node);
    const { x, y } = this.scene!.place;
    const item = this.scene!.visible.itemOf[node]!;
    this.camera.scale = Math.max(this.camera.scale, 0.7);
    this.camera.centre(x[item]!, y[item]!);
    this.host.selected(node);
    this.count.textContent = `${this.hit + 1} of ${nodes.length} found`;
    this.redraw();
  }
}
