/** The search of a graph: by name, operator or scope; one hit after another. */

import { h } from "./dom";
import type { GraphModel } from "./model";

export interface SearchHost {
  /** Other nodes are found; all are drawn anew. */
  found(): void;
  /** One of them is to be shown. */
  goTo(node: number): void;
  /** Escape: the search is over. */
  left(): void;
}

export class Search {
  readonly input = h("input", {
    type: "search",
    placeholder: "Search nodes",
    "aria-label": "Search the graph",
  });
  readonly count = h("span", { class: "fml-soft", role: "status" });
  found: ReadonlySet<number> = new Set(); // nodes
  private graph: GraphModel | undefined;
  private hit = -1;
  private shown = ""; // said where nothing is searched

  constructor(private readonly host: SearchHost) {
    this.input.addEventListener("input", () => this.seek());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
      if (event.key !== "Escape") return;
      this.input.value = "";
      this.seek();
      host.left();
    });
  }

  /** Whether anything is searched. */
  get active(): boolean {
    return this.input.value.trim() !== "";
  }

  setGraph(graph: GraphModel): void {
    this.graph = graph;
    this.seek();
  }

  /** How much of the graph is seen. */
  say(shown: number, all: number): void {
    this.shown = shown === all ? `${all} nodes` : `${shown} of ${all} nodes`;
    if (!this.active) this.count.textContent = this.shown;
  }

  private seek(): void {
    const { graph } = this;
    const text = this.input.value.trim().toLowerCase();
    const found = new Set<number>();
    this.hit = -1;
    if (graph && text) {
      const ops = graph.ops.map((op) => op.toLowerCase().includes(text));
      const scopes = graph.scopes.map((scope) => scope.toLowerCase().includes(text));
      graph.names.forEach((name, node) => {
        const hit = ops[graph.op[node]!] || scopes[graph.scope[node]!];
        if (hit || name.toLowerCase().includes(text)) found.add(node);
      });
    }
    this.found = found;
    const next = found.size ? ", Enter goes to the next" : ": try a part of the name";
    this.count.textContent = text ? `${found.size} found${next}` : this.shown;
    this.host.found();
  }

  private next(by: number): void {
    const nodes = [...this.found];
    if (nodes.length === 0) return;
    this.hit = (this.hit + by + nodes.length) % nodes.length;
    this.host.goTo(nodes[this.hit]!);
    this.count.textContent = `${this.hit + 1} of ${nodes.length} found`;
  }
}
