/** Lanes over layers and the life of every weight, to be edited by pointer or by keyboard. */

import { button, choice, h } from "./dom";
import type { PlanModel } from "./model";
import { FILL, readTheme, type Theme, watchTheme } from "./theme";
import { formatBytes, formatMs, shorten } from "./units";

/** Mirrors views/edits.py. */
export type Action = "preload" | "stream" | "window" | "free";

export interface ScheduleHost {
  edit(action: Action, weight: string, first: number, last: number): void;
  /** -1 undoes, 1 redoes, 0 drops every edit. */
  move(by: number): void;
}

/** Mirrors `ScheduleView.say`. */
export interface Notes {
  diff: [string, string[]][];
  refused: [string, string] | null;
  undo: boolean;
  redo: boolean;
}

const LEFT = 290; // px, for names
const RIGHT = 12;
const LANE = 34;
const LANES = ["disk: loads begin", "transfer: bytes moved", "compute: time", "memory held"];
const ROW = 20;
const HEAD = LANES.length * LANE + 22;
const ASKED = ["", "asked: preload", "asked: stream", "asked: load here"];
const LEGEND: [string, string][] = [
  [FILL.teal, "preloaded"],
  [FILL.orange, "loads, then waits"],
  [FILL.blue, "in use"],
  [FILL.red, "refused"],
];

export class ScheduleView {
  readonly element = h("div", { class: "fml-schedule", role: "group", "aria-label": "Schedule" });
  private readonly canvas = h("canvas", {
    tabindex: "0",
    role: "application",
    "aria-label":
      "Weights over layers; up and down choose a weight, left and right move its load, " +
      "p preloads it, s streams it, f leaves it to the planner",
  });
  private readonly context = this.canvas.getContext("2d")!;
  private readonly scroller = h("div", { class: "fml-scroller" });
  private readonly spacer = h("div");
  private readonly words = h("p", { class: "fml-soft fml-words", role: "status" });
  private readonly alert = h("p", { class: "fml-error", role: "alert" });
  private readonly diff = h("div", { class: "fml-diff fml-soft" });
  private readonly search = h("input", {
    type: "search",
    placeholder: "Search weights",
    "aria-label": "Search weights",
  });
  private readonly buttons: Record<string, HTMLButtonElement>;
  private theme: Theme;
  private plan: PlanModel | undefined;
  private notes: Notes = { diff: [], refused: null, undo: false, redo: false };
  private rows: number[] = []; // weights shown, in order of use
  private shown = "all";
  private selected = -1; // weight
  private dragged = -1; // layer to which the load of the selected weight is dragged
  private readonly stops: (() => void)[] = [];

  constructor(
    parent: HTMLElement,
    private readonly host: ScheduleHost,
  ) {
    const asks = (action: Action) => () => this.ask(action);
    this.buttons = {
      preload: button("Preload", "Keep it on the device from the start (p)", asks("preload")),
      stream: button("Stream", "Never preload it (s)", asks("stream")),
      earlier: button("Load earlier", "Begin its load a layer earlier (←)", () => this.shift(-1)),
      later: button("Load later", "Begin its load a layer later (→)", () => this.shift(1)),
      free: button("Leave to the planner", "Drop what was asked for it (f)", asks("free")),
      undo: button("Undo", "Take the last edit back (Ctrl Z)", () => this.host.move(-1)),
      redo: button("Redo", "Make it again (Ctrl Shift Z)", () => this.host.move(1)),
      drop: button("Drop all edits", "Leave everything to the planner", () => this.host.move(0)),
    };
    const kinds: [string, string][] = [
      ["all", "all weights"],
      ["streamed", "streamed"],
      ["preloaded", "preloaded"],
      ["edited", "edited"],
    ];
    const filter = choice("Show", kinds, (value) => {
      this.shown = value;
      this.arrange();
    });
    const legend = LEGEND.map(([colour, text]) =>
      h("span", {}, h("i", { style: `color:${colour}` }), text),
    );
    this.scroller.append(this.canvas, this.spacer);
    this.element.append(
      h("div", { class: "fml-bar", role: "toolbar" }, ...Object.values(this.buttons)),
      h(
        "div",
        { class: "fml-bar" },
        h("label", { class: "fml-field fml-search" }, this.search),
        filter.element,
        h("div", { class: "fml-legend" }, ...legend),
      ),
      this.alert,
      this.scroller,
      this.words,
      this.diff,
    );
    parent.append(this.element);
    this.theme = readTheme(this.element);
    this.listen();
    this.setNotes(this.notes);
    this.arrange();
  }

  dispose(): void {
    for (const stop of this.stops) stop();
    this.element.remove();
  }

  setPlan(plan: PlanModel | undefined): void {
    const name = this.plan?.weights[this.selected];
    this.plan = plan;
    this.selected = name === undefined ? -1 : (plan?.weights.indexOf(name) ?? -1);
    this.arrange();
  }

  setNotes(notes: Notes): void {
    this.notes = notes;
    this.buttons.undo!.disabled = !notes.undo;
    this.buttons.redo!.disabled = !notes.redo;
    this.alert.hidden = notes.refused === null;
    this.alert.textContent = notes.refused ? `${notes.refused[0]}: ${notes.refused[1]}` : "";
    const lines = notes.diff.map(([what, rows]) =>
      h("div", {}, h("strong", {}, what), ` ${rows.length ? rows.join(" · ") : "the same"}`),
    );
    this.diff.replaceChildren(...lines);
    this.draw();
  }

  /** Selects a weight by name, as a click on its row does. */
  select(weight: string): void {
    this.choose(this.plan?.weights.indexOf(weight) ?? -1);
  }

  private listen(): void {
    const { canvas, scroller } = this;
    const resize = new ResizeObserver(() => this.resize());
    resize.observe(scroller);
    const unwatch = watchTheme(() => {
      this.theme = readTheme(this.element);
      this.draw();
    });
    this.stops.push(() => resize.disconnect(), unwatch);
    scroller.addEventListener("scroll", () => this.draw());
    this.search.addEventListener("input", () => this.arrange());
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => {
      if (this.dragged < 0) this.point(event.offsetX, event.offsetY);
    });
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.scroller;
    if (clientWidth === 0 || clientHeight === 0) return;
    this.canvas.style.height = `${clientHeight}px`;
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.spacer.style.height = `${Math.max(0, HEAD + this.rows.length * ROW - clientHeight)}px`;
    this.draw();
  }

  /** Rows that the filter and the search leave, in order of use. */
  private arrange(): void {
    const { plan } = this;
    const text = this.search.value.trim().toLowerCase();
    this.rows = [];
    plan?.weights.forEach((name, weight) => {
      const pinned = plan.pinned[weight] === 1;
      if (this.shown === "streamed" && pinned) return;
      if (this.shown === "preloaded" && !pinned) return;
      if (this.shown === "edited" && plan.forced[weight] === 0) return;
      if (name.toLowerCase().includes(text)) this.rows.push(weight);
    });
    if (plan) this.rows.sort((a, b) => plan.first[a]! - plan.first[b]!);
    this.resize();
    this.describe();
  }

  // --- places ---

  private get width(): number {
    return Math.max(1, this.scroller.clientWidth - LEFT - RIGHT);
  }

  private x(layer: number): number {
    return LEFT + (layer / Math.max(1, this.plan?.layers.length ?? 1)) * this.width;
  }

  private layerAt(x: number): number {
    const layers = this.plan?.layers.length ?? 1;
    return Math.min(layers - 1, Math.max(0, Math.floor(((x - LEFT) / this.width) * layers)));
  }

  private rowAt(y: number): number {
    if (y < HEAD) return -1;
    return this.rows[Math.floor((y - HEAD + this.scroller.scrollTop) / ROW)] ?? -1;
  }

  // --- edits ---

  private ask(action: Action, first = 0, last = 0): void {
    const weight = this.plan?.weights[this.selected];
    if (weight !== undefined) this.host.edit(action, weight, first, last);
  }

  /** Asks for a load that begins exactly `by` layers later than it does. */
  private shift(by: number): void {
    const { plan, selected } = this;
    if (!plan || selected < 0) return;
    const now = plan.pinned[selected] ? plan.first[selected]! : plan.load[selected]!;
    const layer = Math.min(plan.first[selected]!, Math.max(0, now + by));
    this.ask("window", layer, layer);
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0 || !this.plan) return;
    const weight = this.rowAt(event.offsetY);
    this.choose(weight);
    if (weight < 0 || event.offsetX < LEFT) return;
    const { canvas, plan } = this;
    canvas.setPointerCapture(event.pointerId);
    let moved = 0;
    const move = (next: PointerEvent): void => {
      moved += Math.abs(next.movementX);
      if (moved < 4) return;
      this.dragged = Math.min(plan.first[weight]!, this.layerAt(next.offsetX));
      this.words.textContent = `load from layer ${this.dragged}: ${plan.layers[this.dragged]}`;
      this.draw();
    };
    const release = (next: PointerEvent): void => {
      canvas.removeEventListener("pointermove", move);
      canvas.removeEventListener("pointerup", release);
      canvas.removeEventListener("pointercancel", release);
      const layer = this.dragged;
      this.dragged = -1;
      if (next.type === "pointerup" && layer >= 0) this.ask("window", layer, layer);
      this.draw();
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
  }

  private key(event: KeyboardEvent): void {
    const undoes = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (!undoes && event.target !== this.canvas) return;
    const at = this.rows.indexOf(this.selected);
    const go = (row: number): void => {
      this.choose(this.rows[Math.min(this.rows.length - 1, Math.max(0, row))] ?? -1);
    };
    const acts: Record<string, () => void> = {
      ArrowDown: () => go(at + 1),
      ArrowUp: () => go(at - 1),
      Home: () => go(0),
      End: () => go(this.rows.length - 1),
      ArrowLeft: () => this.shift(-1),
      ArrowRight: () => this.shift(1),
      p: () => this.ask("preload"),
      s: () => this.ask("stream"),
      f: () => this.ask("free"),
    };
    const act = undoes ? () => this.host.move(event.shiftKey ? 1 : -1) : acts[event.key];
    if (!act || (!undoes && (event.ctrlKey || event.metaKey || event.altKey))) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  private choose(weight: number): void {
    this.selected = weight;
    const row = this.rows.indexOf(weight);
    const { scroller } = this;
    const seen = scroller.clientHeight - HEAD - ROW;
    if (row >= 0 && row * ROW < scroller.scrollTop) scroller.scrollTop = row * ROW;
    else if (row * ROW > scroller.scrollTop + seen) scroller.scrollTop = row * ROW - seen;
    this.describe();
    this.draw();
  }

  // --- words ---

  private describe(): void {
    const { plan, selected } = this;
    const one = selected >= 0 && plan !== undefined;
    for (const name of ["preload", "stream", "earlier", "later", "free"]) {
      this.buttons[name]!.disabled = !one;
    }
    if (!plan) this.words.textContent = "There is no plan yet: move the budget.";
    else if (one) this.words.textContent = this.life(selected);
    else if (this.rows.length === 0) this.words.textContent = "No weight is like that.";
    else {
      this.words.textContent =
        "Choose a weight, then pin it or move its load; drag its bar to load it at another layer.";
    }
  }

  private life(weight: number): string {
    const plan = this.plan!;
    const [load, first, last] = [plan.load[weight]!, plan.first[weight]!, plan.last[weight]!];
    const pinned = plan.pinned[weight] === 1;
    const life = pinned
      ? `preloaded, used at layer ${first}`
      : `loads from layer ${load}, used at ${first}${last > first ? ` to ${last}` : ""}, then freed`;
    const asked = ASKED[plan.forced[weight]!];
    const pieces = [plan.weights[weight]!, formatBytes(plan.bytes[weight]!), life];
    if (asked) pieces.push(asked);
    return pieces.join(" · ");
  }

  private point(x: number, y: number): void {
    const { plan } = this;
    const weight = this.rowAt(y);
    if (weight >= 0) this.words.textContent = this.life(weight);
    else if (plan && x >= LEFT && y < HEAD) {
      const layer = this.layerAt(x);
      const held = [0, 1, 2].reduce((sum, pool) => sum + plan.held[3 * layer + pool]!, 0);
      this.words.textContent =
        `layer ${layer}: ${plan.layers[layer]} · ${formatBytes(held)} held · ` +
        `${formatMs(plan.endMs[layer]! - plan.beginMs[layer]!)} predicted`;
    } else this.describe();
  }

  // --- drawing ---

  private draw(): void {
    const { context, theme, plan } = this;
    const { clientWidth: width, clientHeight: height } = this.scroller;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!plan || width === 0) return;
    context.font = `12px ${theme.font}`;
    context.textBaseline = "middle";
    context.save();
    context.beginPath();
    context.rect(0, HEAD, width, height - HEAD);
    context.clip();
    const from = Math.max(0, Math.floor(this.scroller.scrollTop / ROW));
    const to = Math.min(this.rows.length, from + Math.ceil((height - HEAD) / ROW) + 1);
    for (let row = from; row < to; row++) this.drawRow(plan, row);
    context.restore();
    this.drawLanes(plan);
  }

  private drawRow(plan: PlanModel, row: number): void {
    const { context, theme } = this;
    const weight = this.rows[row]!;
    const y = HEAD + row * ROW - this.scroller.scrollTop;
    const refused = this.notes.refused?.[0] === plan.weights[weight];
    if (weight === this.selected) {
      context.fillStyle = theme.panel;
      context.fillRect(0, y, this.scroller.clientWidth, ROW);
      context.fillStyle = theme.accent;
      context.fillRect(0, y, 3, ROW);
    }
    const asked = plan.forced[weight] !== 0;
    context.fillStyle = refused ? FILL.red : theme.ink;
    context.textAlign = "left";
    const name = shorten(plan.weights[weight]!, 40);
    context.fillText(`${asked ? "◆ " : ""}${name}`, 10, y + ROW / 2);
    const bar = (begin: number, end: number, fill: string, inset: number): void => {
      const x = this.x(begin);
      context.fillStyle = fill;
      context.fillRect(x, y + inset, Math.max(2, this.x(end + 1) - x), ROW - 2 * inset);
    };
    const [first, last] = [plan.first[weight]!, plan.last[weight]!];
    if (plan.pinned[weight]) bar(0, last, FILL.teal, 6);
    else {
      const drags = weight === this.selected && this.dragged >= 0;
      bar(drags ? this.dragged : plan.load[weight]!, first, FILL.orange, 6);
      bar(first, last, FILL.blue, 4);
    }
    if (plan.pinned[weight]) bar(first, first, FILL.blue, 4);
    if (!refused) return;
    context.strokeStyle = FILL.red;
    context.lineWidth = 1.5;
    context.strokeRect(LEFT - 2, y + 2, this.width + 4, ROW - 4);
  }

  private drawLanes(plan: PlanModel): void {
    const { context, theme } = this;
    const layers = plan.layers.length;
    const begun = new Float64Array(layers);
    const moved = new Float64Array(layers);
    plan.weights.forEach((_, weight) => {
      begun[plan.load[weight]!]! += plan.bytes[weight]!;
    });
    plan.moveLayer.forEach((layer, i) => {
      moved[layer]! += plan.moveBytes[i]!;
    });
    const time = plan.endMs.map((end, layer) => end - plan.beginMs[layer]!);
    const held = Float64Array.from({ length: layers }, (_, layer) =>
      [0, 1, 2].reduce((sum, pool) => sum + plan.held[3 * layer + pool]!, 0),
    );
    const lanes = [begun, moved, time, held];
    const most = lanes.map((lane) => Math.max(...lane, 0));
    most[3] = Math.max(most[3]!, plan.budgetBytes);
    const fills = [FILL.orange, FILL.blue, FILL.teal, FILL.violet];
    lanes.forEach((lane, i) => {
      const floor = (i + 1) * LANE;
      context.textAlign = "left";
      context.fillStyle = theme.soft;
      context.fillText(LANES[i]!, 10, floor - LANE / 2 + 2);
      context.textAlign = "right";
      const words = i === 2 ? formatMs(most[i]!) : formatBytes(most[i]!);
      context.fillText(words, LEFT - 8, floor - LANE / 2 + 2);
      context.fillStyle = fills[i]!;
      for (let layer = 0; layer < layers; layer++) {
        const size = most[i]! > 0 ? (lane[layer]! / most[i]!) * (LANE - 8) : 0;
        const x = this.x(layer);
        context.fillRect(x, floor - size, Math.max(1, this.x(layer + 1) - x - 0.4), size);
      }
      context.strokeStyle = theme.line;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(LEFT, floor + 0.5);
      context.lineTo(LEFT + this.width, floor + 0.5);
      context.stroke();
    });
    const budget = 4 * LANE - (plan.budgetBytes / most[3]!) * (LANE - 8);
    context.strokeStyle = FILL.red;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(LEFT, budget);
    context.lineTo(LEFT + this.width, budget);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = theme.soft;
    context.textAlign = "center";
    const step = Math.max(1, 10 ** Math.floor(Math.log10(layers / 2)));
    for (let layer = 0; layer < layers; layer += step) {
      context.fillText(String(layer), this.x(layer + 0.5), HEAD - 11);
    }
  }
}
