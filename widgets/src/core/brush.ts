/** What is pointed at or chosen in one view and shown in the others; mirrors views/brush.py. */

import type { PlanModel } from "./model";

export interface Brush {
  /** A weight's name; "" for none. */
  weight: string;
  /** Layers from `first` to `last`; -1 for none. */
  first: number;
  last: number;
}

export const NO_BRUSH: Readonly<Brush> = { weight: "", first: -1, last: -1 };

export function sameBrush(one: Brush, other: Brush): boolean {
  return one.weight === other.weight && one.first === other.first && one.last === other.last;
}

/** The layers of a brush: of a weight, those during which this plan holds it; [-1, -1] for none. */
export function layersOf(brush: Brush, plan: PlanModel): [number, number] {
  const weight = plan.weights.indexOf(brush.weight);
  if (weight >= 0) return [plan.load[weight]!, plan.last[weight]!];
  return brush.last < plan.layers.length ? [brush.first, brush.last] : [-1, -1];
}

/** A view that shows what another one points at. */
export interface Brushable {
  setHovered(brush: Brush): void;
  setChosen(brush: Brush): void;
}

/** Where a view tells what is pointed at in it. */
export interface BrushHost {
  hover(brush: Brush): void;
  choose(brush: Brush): void;
}
