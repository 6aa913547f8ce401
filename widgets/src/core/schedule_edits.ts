/** What can be asked for the weight that is selected: by buttons, by keys, by a drag. */

import { button, group, h } from "./dom";
import type { PlanModel } from "./model";

/** Mirrors views/edits.py. */
export type Action = "preload" | "stream" | "window" | "free";

export interface EditHost {
  edit(action: Action, weight: string, first: number, last: number): void;
  /** -1 undoes, 1 redoes, 0 drops every edit. */
  move(by: number): void;
}

export class Edits {
  readonly element: HTMLElement;
  /** Layer that the latest edit was about. */
  at = 0;
  private readonly asks: HTMLButtonElement[];
  private readonly undo: HTMLButtonElement;
  private readonly redo: HTMLButtonElement;
  private readonly drop: HTMLButtonElement;
  private plan: PlanModel | undefined;
  private weight = -1;

  constructor(private readonly host: EditHost) {
    const ask = (action: Action) => () => this.ask(action);
    const where = [
      button("Preload", "Keep it on the device from the start (p)", ask("preload"), "pin"),
      button("Stream", "Forbid that it is preloaded (s)", ask("stream"), "waves"),
    ];
    const when = [
      button("Earlier", "Begin its load a layer earlier (←)", () => this.shift(-1), "left"),
      button("Later", "Begin its load a layer later (→)", () => this.shift(1), "right"),
    ];
    const never = [
      button("Not earlier", "Forbid loads earlier than this ([)", () => this.limit(-1), "fromHere"),
      button("Not later", "Forbid loads later than this (])", () => this.limit(1), "upToHere"),
    ];
    const free = button(
      "Leave to the planner",
      "Drop what was asked for it (f)",
      ask("free"),
      "open",
    );
    this.asks = [...where, ...when, ...never, free];
    this.undo = button(
      "Undo",
      "Undo: take the last edit back (Ctrl Z)",
      () => host.move(-1),
      "undo",
    );
    this.redo = button("Redo", "Redo: make it again (Ctrl Shift Z)", () => host.move(1), "redo");
    const all = "Drop all edits: leave everything to the planner";
    this.drop = button("Drop all edits", all, () => host.move(0), "bin");
    this.element = h(
      "div",
      { class: "fml-bar fml-edits", role: "toolbar", "aria-label": "Edits" },
      group("Kept or streamed", ...where),
      group("Load", ...when),
      group("Forbid loads", ...never),
      free,
      group("All edits", this.undo, this.redo, this.drop),
    );
  }

  /** The weight that is selected, or -1. */
  select(plan: PlanModel | undefined, weight: number): void {
    this.plan = plan;
    this.weight = weight;
    for (const one of this.asks) one.disabled = !plan || weight < 0;
  }

  setHistory(undo: boolean, redo: boolean): void {
    this.undo.disabled = this.drop.disabled = !undo;
    this.redo.disabled = !redo;
  }

  /** Asks for a load that begins at one of some layers. */
  window(first: number, last: number): void {
    this.ask("window", first, last);
  }

  /** What a key does. */
  key(event: KeyboardEvent): (() => void) | undefined {
    const name = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      const by = name === "y" || event.shiftKey ? 1 : -1;
      return name === "z" || name === "y" ? () => this.host.move(by) : undefined;
    }
    const acts: Record<string, () => void> = {
      arrowleft: () => this.shift(-1),
      arrowright: () => this.shift(1),
      p: () => this.ask("preload"),
      s: () => this.ask("stream"),
      f: () => this.ask("free"),
      "[": () => this.limit(-1),
      "]": () => this.limit(1),
    };
    return event.altKey ? undefined : acts[name];
  }

  private ask(action: Action, first = 0, last = 0): void {
    const weight = this.plan?.weights[this.weight];
    if (weight === undefined) return;
    this.at = action === "window" ? first : this.plan!.first[this.weight]!;
    this.host.edit(action, weight, first, last);
  }

  /** The layer at which the load begins; where it is used, if it is preloaded. */
  private get load(): number {
    const { plan, weight } = this;
    return plan!.pinned[weight] ? plan!.first[weight]! : plan!.load[weight]!;
  }

  /** Asks for a load that begins exactly `by` layers later than it does. */
  private shift(by: number): void {
    const { plan, weight } = this;
    if (!plan || weight < 0) return;
    const layer = Math.min(plan.first[weight]!, Math.max(0, this.load + by));
    this.window(layer, layer);
  }

  /** Forbids loads on one side of where it begins: earlier ones (-1) or later ones (1). */
  private limit(side: -1 | 1): void {
    const { plan, weight } = this;
    if (!plan || weight < 0) return;
    if (side < 0) this.window(this.load, plan.first[weight]!);
    else this.window(0, this.load);
  }
}
