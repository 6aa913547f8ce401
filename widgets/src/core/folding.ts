/** A graph whose groups are open or closed, and what is seen of it, laid out anew each time. */

import { Groups } from "./groups";
import type { GraphModel } from "./model";
import { Scene } from "./scene";

const OVERVIEW = 350; // items seen at first

export class Folding {
  readonly groups: Groups;
  scene: Scene;
  /** What the last layout took, ms. */
  took = 0;
  private closed: Set<number>;

  constructor(readonly graph: GraphModel) {
    this.groups = new Groups(graph);
    this.closed = this.groups.overview(OVERVIEW);
    this.scene = this.arrange();
  }

  /** The group that an item of the scene shows: itself, or that around a node; or -1. */
  groupOf(item: number): number {
    const what = this.scene.visible.items[item]!;
    return what < 0 ? -1 - what : this.groups.of[what]!;
  }

  /** The first node that an item shows. */
  nodeOf(item: number): number {
    const what = this.scene.visible.items[item]!;
    return what >= 0 ? what : this.groups.all[-1 - what]!.nodes[0]!;
  }

  /** Opens every group. */
  openAll(): void {
    this.closed.clear();
    this.arrange();
  }

  closeAll(): void {
    this.closed = new Set(this.groups.all.keys());
    this.arrange();
  }

  /** Closes all but the first of each repeated block. */
  closeRepeats(): void {
    this.closed = this.groups.repeats();
    this.arrange();
  }

  /** Opens what a node lies in; whether anything was closed. */
  openAround(node: number): boolean {
    const around = [...this.groups.around(node)].filter((group) => this.closed.delete(group));
    if (around.length) this.arrange();
    return around.length > 0;
  }

  /** Opens a group, but none inside of it. */
  open(group: number): void {
    this.closed.delete(group);
    for (let child = group + 1; child < this.groups.all.length; child++) {
      if (this.groups.all[child]!.parent === group) this.closed.add(child);
    }
    this.arrange();
  }

  close(group: number): void {
    this.closed.add(group);
    this.arrange();
  }

  private arrange(): Scene {
    const began = performance.now();
    this.scene = new Scene(this.graph, this.groups, this.closed);
    this.took = performance.now() - began;
    return this.scene;
  }
}
