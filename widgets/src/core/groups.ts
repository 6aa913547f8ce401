/** Scopes as a tree of groups, repeated blocks among them, and the graph that is seen of it. */

import type { GraphModel, Section } from "./model";
import { formatBytes } from "./units";

export interface Group {
  label: string; // "layers.3"
  path: string; // "encoder.layers.3"
  parent: number; // group, or -1
  depth: number;
  nodes: number[]; // all of them, in execution order
  /** The first sibling made of the same operators; itself where there is none before. */
  twin: number;
  /** How many such siblings there are, itself included. */
  repeats: number;
}

/** What is drawn: nodes, and groups in the place of theirs. */
export interface Visible {
  /** Of each item: node (>= 0), or group as -1 - group. */
  items: number[];
  /** Of each node: the item that shows it. */
  itemOf: Int32Array;
  edges: Uint32Array;
}

const SMALLEST = 2; // nodes that are worth a box
const LONGEST_PERIOD = 160; // nodes of a repeated block in a model without scopes

export class Groups {
  readonly all: Group[] = [];
  /** Of each node: its innermost group, or -1. */
  readonly of: Int32Array;

  constructor(private readonly graph: GraphModel) {
    const count = graph.names.length;
    const paths = graph.scopes.map(segments);
    const scoped = graph.scope.reduce((sum, scope) => sum + (paths[scope]!.length ? 1 : 0), 0);
    // An exporter that names no scopes leaves only the operators to tell blocks by.
    const blocks = scoped < count / 4 ? repeatedBlocks(graph.op) : undefined;
    this.of = new Int32Array(count).fill(-1);
    const known = new Map<string, number>();
    for (let node = 0; node < count; node++) {
      const block = blocks?.[node] ?? -1;
      const path = blocks ? (block < 0 ? [] : [`block ${block}`]) : paths[graph.scope[node]!]!;
      this.of[node] = this.enter(path, node, known);
    }
    this.drop();
    this.findTwins();
  }

  /** Whether a group shows as one item: it or one around it is in `collapsed`. */
  outermost(group: number, collapsed: ReadonlySet<number>): number {
    let found = -1;
    for (let at = group; at >= 0; at = this.all[at]!.parent) if (collapsed.has(at)) found = at;
    return found;
  }

  /** Groups in which a node lies, innermost first. */
  *around(node: number): Generator<number> {
    for (let at = this.of[node]!; at >= 0; at = this.all[at]!.parent) yield at;
  }

  /** All but the first of each set of repeated blocks. */
  repeats(): Set<number> {
    const found = new Set<number>();
    this.all.forEach((group, i) => {
      if (group.twin !== i) found.add(i);
    });
    return found;
  }

  /** Every group of the outermost level. */
  top(): Set<number> {
    const found = new Set<number>();
    this.all.forEach((group, i) => {
      if (group.parent < 0) found.add(i);
    });
    return found;
  }

  /** As few boxes opened as possible, as long as no more than `limit` items are seen. */
  overview(limit: number): Set<number> {
    if (this.graph.names.length <= limit) return new Set();
    const folded = this.repeats();
    const collapsed = new Set([...this.top(), ...folded]);
    for (let depth = 0; depth < 12; depth++) {
      const next = new Set(collapsed);
      for (const group of collapsed) {
        if (this.all[group]!.depth === depth && !folded.has(group)) next.delete(group);
      }
      this.all.forEach((group, i) => {
        if (group.depth === depth + 1) next.add(i);
      });
      if (this.visible(next).items.length > limit) break;
      collapsed.clear();
      for (const group of next) collapsed.add(group);
    }
    return collapsed;
  }

  visible(collapsed: ReadonlySet<number>): Visible {
    const count = this.graph.names.length;
    const items: number[] = [];
    const itemOf = new Int32Array(count);
    const boxes = new Map<number, number>();
    for (let node = 0; node < count; node++) {
      const box = this.outermost(this.of[node]!, collapsed);
      const known = box < 0 ? undefined : boxes.get(box);
      itemOf[node] = known ?? items.length;
      if (known !== undefined) continue;
      if (box >= 0) boxes.set(box, items.length);
      items.push(box < 0 ? node : -1 - box);
    }
    const seen = new Set<number>();
    const edges: number[] = [];
    for (let e = 0; e < this.graph.edges.length; e += 2) {
      const from = itemOf[this.graph.edges[e]!]!;
      const to = itemOf[this.graph.edges[e + 1]!]!;
      const key = from * items.length + to;
      if (from === to || seen.has(key)) continue;
      seen.add(key);
      edges.push(from, to);
    }
    return { items, itemOf, edges: Uint32Array.from(edges) };
  }

  /** What the panel says of a group. */
  describe(group: number): Section[] {
    const { nodes, repeats, twin } = this.all[group]!;
    const { graph } = this;
    const bytes = nodes.reduce((sum, node) => sum + graph.weightBytes[node]!, 0);
    const rows: [string, string][] = [
      ["nodes", String(nodes.length)],
      ["weights", formatBytes(bytes)],
    ];
    if (repeats > 1) rows.push(["repeated", `${repeats} times`]);
    if (twin !== group) rows.push(["the same as", this.all[twin]!.path]);
    const counts = new Map<string, number>();
    for (const node of nodes) {
      const op = graph.ops[graph.op[node]!]!;
      counts.set(op, (counts.get(op) ?? 0) + 1);
    }
    const operators = [...counts].sort((a, b) => b[1] - a[1]);
    return [
      { title: "Group", rows },
      { title: "Operators", rows: operators.map(([op, n]) => [op, String(n)]) },
    ];
  }

  private enter(path: string[], node: number, known: Map<string, number>): number {
    let parent = -1;
    let full = "";
    path.forEach((label, depth) => {
      full = full ? `${full}.${label}` : label;
      let group = known.get(full);
      if (group === undefined) {
        group = this.all.length;
        known.set(full, group);
        this.all.push({ label, path: full, parent, depth, nodes: [], twin: group, repeats: 1 });
      }
      this.all[group]!.nodes.push(node);
      parent = group;
    });
    return parent;
  }

  /** Lifts what lies in a group too small, or the same as the one around it, into that one. */
  private drop(): void {
    const needless = this.all.map(
      (group) =>
        group.nodes.length < SMALLEST ||
        (group.parent >= 0 && this.all[group.parent]!.nodes.length === group.nodes.length),
    );
    const old = [...this.all];
    const kept = (group: number): number => {
      let at = group;
      while (at >= 0 && needless[at]) at = old[at]!.parent;
      return at;
    };
    const number = new Map<number, number>([[-1, -1]]);
    this.all.length = 0;
    old.forEach((group, i) => {
      if (needless[i]) return;
      const parent = number.get(kept(group.parent))!;
      number.set(i, this.all.length);
      const depth = parent < 0 ? 0 : this.all[parent]!.depth + 1;
      this.all.push({ ...group, parent, depth, twin: this.all.length });
    });
    this.of.forEach((group, node) => {
      this.of[node] = number.get(kept(group))!;
    });
  }

  /** Siblings with the same operators in the same order are the same block, again. */
  private findTwins(): void {
    const first = new Map<string, number>();
    this.all.forEach((group, i) => {
      const operators = group.nodes.map((node) => this.graph.op[node]).join(",");
      const stem = group.label.replace(/\d+$/, "");
      const key = `${group.parent}/${stem}/${operators}`;
      const twin = first.get(key);
      if (twin === undefined) first.set(key, i);
      else {
        group.twin = twin;
        this.all[twin]!.repeats += 1;
      }
    });
    for (const group of this.all) group.repeats = this.all[group.twin]!.repeats;
  }
}

/** "encoder.layers.3.attn" is encoder / layers.3 / attn: a number belongs to what it counts. */
function segments(scope: string): string[] {
  const found: string[] = [];
  for (const part of scope.split(".").filter((text) => text !== "")) {
    if (/^\d+$/.test(part) && found.length > 0) found.push(`${found.pop()}.${part}`);
    else found.push(part);
  }
  return found;
}

/**
 * Runs of equal operator sequences, one after another; of each node its block, counted from 1,
 * or -1. The longest run that starts at a place wins.
 */
function repeatedBlocks(op: Uint32Array): Int32Array {
  const block = new Int32Array(op.length).fill(-1);
  let number = 0;
  let at = 0;
  while (at < op.length) {
    let [period, times] = [0, 1];
    for (let p = 4; p <= Math.min(LONGEST_PERIOD, (op.length - at) / 2); p++) {
      let same = 0;
      while (at + p + same < op.length && op[at + same] === op[at + p + same]) same += 1;
      const found = 1 + Math.floor(same / p);
      if (found > 1 && found * p > period * times) [period, times] = [p, found];
    }
    if (times === 1) {
      at += 1;
      continue;
    }
    for (let t = 0; t < times; t++, at += period) block.fill(++number, at, at + period);
  }
  return block;
}
