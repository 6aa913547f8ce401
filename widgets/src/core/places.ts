/** Where layers are on an axis: at their numbers, or at their times. */

import type { Axis } from "./axis";

export type Over = "layers" | "time";

export class Places {
  over: Over = "layers";
  /** When each layer ends, ms. */
  ends: ArrayLike<number> = [];

  constructor(readonly axis: Axis) {}

  /** Where the axis ends. */
  get end(): number {
    return this.over === "layers" ? this.ends.length : (this.ends[this.ends.length - 1] ?? 1);
  }

  /** Where a layer begins; a stall belongs to the layer that waits. */
  x0(layer: number): number {
    if (this.over === "layers") return this.axis.x(layer);
    return this.axis.x(layer > 0 ? this.ends[layer - 1]! : 0);
  }

  x1(layer: number): number {
    return this.axis.x(this.over === "layers" ? layer + 1 : this.ends[layer]!);
  }

  layerAt(x: number): number {
    const value = this.axis.valueAt(x);
    const last = this.ends.length - 1;
    if (this.over === "layers") return Math.min(last, Math.max(0, Math.floor(value)));
    let layer = 0;
    while (layer < last && this.ends[layer]! <= value) layer += 1;
    return layer;
  }
}
