/** The part of anywidget's model that the faces use, with the types of their state. */

import type { Brush, Brushable, BrushHost } from "../core/brush";

export interface AnyModel<State, Reply> {
  get<K extends keyof State>(name: K): State[K];
  set<K extends keyof State>(name: K, value: State[K]): void;
  save_changes(): void;
  send(content: unknown): void;
  on(name: "msg:custom", callback: (content: Reply, buffers: DataView[]) => void): void;
  on(name: `change:${keyof State & string}`, callback: () => void): void;
  off(name: "msg:custom", callback: (content: Reply, buffers: DataView[]) => void): void;
  off(name: `change:${keyof State & string}`, callback: () => void): void;
}

type Heard<State> = { [K in keyof State]?: (value: State[K]) => void };

/** Tells each value now, in the order given, and whenever it changes; returns how to stop. */
export function listen<State, Reply>(
  model: AnyModel<State, Reply>,
  heard: Heard<State>,
): () => void {
  const stops: (() => void)[] = [];
  for (const name of Object.keys(heard) as (keyof State & string)[]) {
    const tell = (): void => heard[name]!(model.get(name));
    model.on(`change:${name}`, tell);
    stops.push(() => model.off(`change:${name}`, tell));
    tell();
  }
  return () => {
    for (const stop of stops) stop();
  };
}

/** Traits of a view that is linked with others; mirrors views/brush.py. */
export interface BrushState {
  hovered: Brush;
  chosen: Brush;
}

/** How a view tells the linked ones what is pointed at in it. */
export function brushHost<State extends BrushState, Reply>(
  model: AnyModel<State, Reply>,
): BrushHost {
  const tell = (name: "hovered" | "chosen") => (brush: Brush) => {
    model.set(name, brush);
    model.save_changes();
  };
  return { hover: tell("hovered"), choose: tell("chosen") };
}

/** How a view is told; for `listen`. */
export function brushed(view: Brushable): Heard<BrushState> {
  return {
    hovered: (brush) => view.setHovered(brush),
    chosen: (brush) => view.setChosen(brush),
  };
}
