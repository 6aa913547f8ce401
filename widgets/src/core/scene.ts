/** What is where: the visible items of a graph, laid out, and what of them lies in a window. */

import type { Groups, Visible } from "./groups";
import { type Layout, layout } from "./layout";
import type { GraphModel } from "./model";

export interface Box {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

/** An opened group: the box around its nodes. */
export interface Frame extends Box {
  group: number;
  /** Its label; it begins with those of frames around it whose words it would cover. */
  title: string;
}

const NODE = { width: 150, height: 36 };
const GROUP = { width: 218, height: 46 };
const CELL = 1024; // height of a band of the index; graphs are tall, not wide
const FRAME = { side: 11, head: 24, foot: 9 };
const CHARACTER = 6.4; // px of a frame's title, about

export class Scene {
  readonly visible: Visible;
  readonly place: Layout;
  readonly width: Float64Array;
  readonly height: Float64Array;
  readonly frames: Frame[];
  readonly bounds: Box;
  private readonly nodeBands: number[][] = [];
  private readonly edgeBands: number[][] = [];

  constructor(
    readonly graph: GraphModel,
    readonly groups: Groups,
    collapsed: ReadonlySet<number>,
  ) {
    this.visible = groups.visible(collapsed);
    const { items, edges } = this.visible;
    const size = items.map((item) => (item >= 0 ? NODE : GROUP));
    this.width = Float64Array.from(size, (one) => one.width);
    this.height = Float64Array.from(size, (one) => one.height);
    this.place = layout({ count: items.length, edges, width: this.width, height: this.height });
    this.frames = this.frame(collapsed);
    this.bounds = this.around(items.map((_, i) => i));
    for (const frame of this.frames) extend(this.bounds, frame);
    items.forEach((_, i) => {
      const box = this.box(i);
      put(this.nodeBands, this.band(box.y0), this.band(box.y1), i);
    });
    for (let e = 0; e < edges.length / 2; e++) {
      const [a, b] = [this.place.y[edges[2 * e]!]!, this.place.y[edges[2 * e + 1]!]!];
      put(this.edgeBands, this.band(Math.min(a, b)), this.band(Math.max(a, b)), e);
    }
  }

  box(item: number): Box {
    const [x, y] = [this.place.x[item]!, this.place.y[item]!];
    const [w, h] = [this.width[item]! / 2, this.height[item]! / 2];
    return { x0: x - w, y0: y - h, x1: x + w, y1: y + h };
  }

  /** Items in a window, each once. */
  itemsIn(window: Box): number[] {
    return this.gather(this.nodeBands, window).filter((i) => {
      const box = this.box(i);
      return (
        box.x1 >= window.x0 && box.x0 <= window.x1 && box.y1 >= window.y0 && box.y0 <= window.y1
      );
    });
  }

  /** Edges that may cross a window, each once. */
  edgesIn(window: Box): number[] {
    return this.gather(this.edgeBands, window);
  }

  itemAt(x: number, y: number): number {
    return this.itemsIn({ x0: x, y0: y, x1: x, y1: y })[0] ?? -1;
  }

  /** The innermost opened group whose head is at a point, or -1. */
  headAt(x: number, y: number): number {
    let found = -1;
    let depth = -1;
    for (const frame of this.frames) {
      const inside = x >= frame.x0 && x <= frame.x1 && y >= frame.y0 && y <= frame.y0 + FRAME.head;
      if (!inside || this.groups.all[frame.group]!.depth < depth) continue;
      depth = this.groups.all[frame.group]!.depth;
      found = frame.group;
    }
    return found;
  }

  around(items: number[]): Box {
    const box = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
    for (const item of items) extend(box, this.box(item));
    return items.length ? box : { x0: 0, y0: 0, x1: 1, y1: 1 };
  }

  /** Opened groups, the outer ones first, those around more than one item. */
  private frame(collapsed: ReadonlySet<number>): Frame[] {
    const members = new Map<number, number[]>();
    this.visible.items.forEach((item, i) => {
      const inner = item >= 0 ? this.groups.of[item]! : this.groups.all[-1 - item]!.parent;
      for (let g = inner; g >= 0; g = this.groups.all[g]!.parent) {
        if (collapsed.has(g)) continue;
        const list = members.get(g);
        if (list) list.push(i);
        else members.set(g, [i]);
      }
    });
    const frames: Frame[] = [];
    const deepest = Math.max(0, ...this.groups.all.map((group) => group.depth));
    for (const [group, items] of members) {
      if (items.length < 2) continue;
      const box = this.around(items);
      const inset = deepest - this.groups.all[group]!.depth; // an outer frame leaves room for inner
      frames.push({
        group,
        title: this.title(group),
        x0: box.x0 - FRAME.side * (1 + inset * 0.6),
        x1: box.x1 + FRAME.side * (1 + inset * 0.6),
        y0: box.y0 - FRAME.head,
        y1: box.y1 + FRAME.foot,
      });
    }
    frames.sort((a, b) => this.groups.all[a.group]!.depth - this.groups.all[b.group]!.depth);
    // Where the words of frames would meet, the innermost has those of all.
    frames.forEach((inner, i) => {
      for (const outer of frames.slice(0, i).reverse()) {
        const words = outer.title.length * CHARACTER + 24; // px, with its triangle
        if (outer.y0 !== inner.y0 || inner.x0 - outer.x0 > words || !outer.title) continue;
        if (!this.isWithin(inner.group, outer.group)) continue;
        inner.title = `${outer.title} / ${inner.title}`;
        outer.title = "";
      }
    });
    return frames;
  }

  private title(group: number): string {
    const { label, repeats } = this.groups.all[group]!;
    return repeats > 1 ? `${label} ×${repeats}` : label;
  }

  private isWithin(inner: number, outer: number): boolean {
    for (let at = inner; at >= 0; at = this.groups.all[at]!.parent) if (at === outer) return true;
    return false;
  }

  private band(y: number): number {
    return Math.max(0, Math.floor(y / CELL));
  }

  private gather(bands: number[][], window: Box): number[] {
    const [from, to] = [this.band(window.y0), this.band(window.y1)];
    if (from === to) return bands[from] ?? [];
    const found = new Set<number>();
    for (let at = from; at <= Math.min(to, bands.length - 1); at++) {
      for (const one of bands[at] ?? []) found.add(one);
    }
    return [...found];
  }
}

function put(bands: number[][], from: number, to: number, what: number): void {
  for (let at = from; at <= to; at++) {
    bands[at] ??= [];
    bands[at]!.push(what);
  }
}

function extend(box: Box, by: Box): void {
  box.x0 = Math.min(box.x0, by.x0);
  box.y0 = Math.min(box.y0, by.y0);
  box.x1 = Math.max(box.x1, by.x1);
  box.y1 = Math.max(box.y1, by.y1);
}
