/** The weights that have a row: those that the filter and the search leave, in order of use. */

import type { PlanModel } from "./model";
import { HEAD, ROW } from "./schedule_chart";

export class Rows {
  /** Weights, the first one on top. */
  shown: number[] = [];
  private height = 0; // px of the canvas
  private row = -1; // of what is selected, as it was drawn
  private seen = false;

  constructor(private readonly scroller: HTMLElement) {}

  /** Takes the weights of a kind (see KINDS of schedule.ts) that have `text` in their name. */
  arrange(plan: PlanModel | undefined, kind: string, text: string): void {
    this.shown = [];
    if (!plan) return;
    const wanted = text.trim().toLowerCase();
    plan.weights.forEach((name, weight) => {
      const pinned = plan.pinned[weight] === 1;
      if (kind === "streamed" && pinned) return;
      if (kind === "preloaded" && !pinned) return;
      if (kind === "edited" && plan.forced[weight] === 0) return;
      if (name.toLowerCase().includes(wanted)) this.shown.push(weight);
    });
    this.shown.sort((a, b) => plan.first[a]! - plan.first[b]!);
  }

  indexOf(weight: number): number {
    return this.shown.indexOf(weight);
  }

  /** The weight whose row is at a height of the canvas, or -1. */
  weightAt(y: number): number {
    if (y < HEAD) return -1;
    return this.shown[Math.floor((y - HEAD + this.scroller.scrollTop) / ROW)] ?? -1;
  }

  /** Scrolls so far that a row is seen. */
  reveal(row: number): void {
    if (row < 0) return;
    const { scroller, room } = this;
    const top = row * ROW;
    scroller.scrollTop = Math.min(top, Math.max(scroller.scrollTop, top - room));
  }

  /**
   * Keeps the row of a weight in sight where another plan moves it, or words below the rows take
   * their room; not where somebody scrolled away from it. To be called with each drawing.
   */
  follow(weight: number, height: number): void {
    const row = this.indexOf(weight);
    const moved = row !== this.row || height !== this.height;
    this.row = row;
    this.height = height;
    if (this.seen && moved) this.reveal(row);
    this.seen = this.sees(row);
  }

  /** Px from the first row to the last one that fits. */
  private get room(): number {
    return this.height - HEAD - ROW;
  }

  /** Whether at least half of a row is seen. */
  private sees(row: number): boolean {
    const y = row * ROW - this.scroller.scrollTop;
    return row >= 0 && y > -ROW / 2 && y < this.room + ROW / 2;
  }
}
