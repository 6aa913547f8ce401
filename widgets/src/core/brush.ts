/** What is pointed at or chosen in one view and shown in the others; mirrors views/brush.py. */

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
