/** What is held: over time, over layers, or as addresses; what was measured over what was expected. */

import { drawAddresses, objectAt } from "./addresses";
import { Axis, drawMarks } from "./axis";
import { type Brush, type Brushable, type BrushHost, layersOf, NO_BRUSH, sameBrush } from "./brush";
import { button, choice, h } from "./dom";
import { follow } from "./drag";
import type { AddressModel, MemoryModel } from "./memory_data";
import { moment, objectWords, previewWords } from "./memory_words";
import type { PlanModel } from "./model";
import { Places } from "./places";
import * as stack from "./stack";
import { Surface } from "./surface";
import { type Preview, previewAt, type Sweep } from "./sweep";
import { Tip } from "./tip";
import { formatMs } from "./units";

export type Mode = "time" | "layers" | "map";

export interface MemoryHost extends BrushHost {
  /** Another mode was chosen. */
  mode(mode: Mode): void;
}

const LEFT = 84; // px, for figures
const RIGHT = 14;
const TOP = 8;
const BOTTOM = 26;
const MODES: [Mode, string][] = [
  ["time", "time"],
  ["layers", "layers"],
  ["map", "layers, by address"],
];
const MAP_NOTE =
  "Addresses are those of a first-fit allocator; a driver places objects as it likes.";

export class MemoryView implements Brushable {
  readonly element = h("div", { class: "fml-memory", role: "group", "aria-label": "Memory" });
  private readonly canvas = h("canvas", {
    tabindex: "0",
    role: "application",
    "aria-label":
      "Memory held; left and right move the chosen layer, + and − zoom, 0 shows all, Escape lets go",
  });
  private readonly chart = h("div", { class: "fml-chart" }, this.canvas);
  private readonly tip = new Tip();
  private readonly words = h("span", { class: "fml-soft", role: "status" });
  private readonly live = h("div", { class: "fml-hidden", "aria-live": "polite" });
  private readonly legend = h("div", { class: "fml-legend" });
  private readonly over: HTMLSelectElement;
  private readonly surface: Surface;
  private readonly axis = new Axis(LEFT);
  private readonly places = new Places(this.axis);
  private mode: Mode = "time";
  private memory: MemoryModel | undefined;
  private plan: PlanModel | undefined;
  private layers: stack.Steps = stack.NOTHING; // predicted, over layers
  private sweep: Sweep | undefined;
  private addresses: AddressModel | undefined;
  private percent = 0;
  private hovered: Brush = NO_BRUSH;
  private chosen: Brush = NO_BRUSH;

  constructor(
    parent: HTMLElement,
    private readonly host: MemoryHost,
  ) {
    const over = choice("Over", MODES, (mode) => {
      this.setMode(mode as Mode);
      host.mode(mode as Mode);
    });
    this.over = over.select;
    const all = button("Show all", "Show the whole run (0)", () => {
      this.axis.all();
      this.surface.redraw();
    });
    this.element.append(
      h("div", { class: "fml-bar" }, over.element, all, this.words),
      this.legend,
      this.chart,
      this.live,
    );
    this.chart.append(this.tip.element);
    parent.append(this.element);
    this.surface = new Surface(this.canvas, this.chart, () => this.draw());
    this.listen();
    this.describe();
  }

  dispose(): void {
    this.surface.dispose();
    this.element.remove();
  }

  // --- what is shown ---

  setMemory(memory: MemoryModel | undefined): void {
    this.memory = memory;
    this.refresh();
  }

  setPlan(plan: PlanModel | undefined): void {
    this.plan = plan;
    this.layers = plan ? stack.layerSteps(plan.held) : stack.NOTHING;
    this.refresh();
  }

  setSweep(sweep: Sweep | undefined): void {
    this.sweep = sweep;
    this.refresh();
  }

  setAddresses(addresses: AddressModel | undefined): void {
    this.addresses = addresses;
    this.refresh();
  }

  setPercent(percent: number): void {
    this.percent = percent;
    this.refresh();
  }

  setMode(mode: Mode): void {
    this.mode = mode;
    this.over.value = mode;
    this.refresh();
    this.axis.all();
  }

  setHovered(brush: Brush): void {
    this.hovered = brush;
    this.surface.redraw();
  }

  setChosen(brush: Brush): void {
    this.chosen = brush;
    this.surface.redraw();
  }

  private refresh(): void {
    const { memory, plan, places } = this;
    // The axis is that of what is filled: measured, where it was.
    places.ends = memory?.measuredEnd.length ? memory.measuredEnd : (plan?.endMs ?? []);
    places.over = this.mode === "time" ? "time" : "layers";
    this.axis.stretch(this.end);
    this.describe();
    this.surface.redraw();
  }

  /** What a budget that the kernel has not answered for would hold, about. */
  private get preview(): Preview | undefined {
    const { memory, sweep, percent } = this;
    if (!memory || !sweep || this.mode === "map") return undefined;
    const preview = previewAt(sweep, percent);
    return Math.abs(preview.budgetBytes - memory.budgetBytes) > 1 ? preview : undefined;
  }

  /** Where the horizontal axis ends: ms or layers. */
  private get end(): number {
    const { memory, preview } = this;
    if (this.mode !== "time") return this.places.end;
    return Math.max(memory?.predicted.end ?? 1, memory?.measured.end ?? 0, preview?.coldMs ?? 0);
  }

  private describe(): void {
    const { memory, preview, mode, plan } = this;
    const measured = memory !== undefined && memory.measured.x.length > 0;
    this.element.classList.toggle("fml-empty", !memory);
    if (!memory) this.words.textContent = "There is no plan: move the budget, or undo edits.";
    else if (mode === "map") this.words.textContent = MAP_NOTE;
    else if (preview) this.words.textContent = previewWords(preview);
    else {
      const took = measured ? `, measured ${formatMs(memory.measured.end)}` : "";
      const name = plan ? ` on ${plan.device}` : "";
      this.words.textContent = `first run${name}: predicted ${formatMs(memory.predicted.end)}${took}`;
    }
    const entries: [string, string, string][] = [...stack.POOLS]
      .reverse()
      .map(([name, ink]) => [ink, name, ""]);
    if (mode !== "map") {
      entries.push(["var(--fml-ink)", measured ? "total measured" : "total predicted", "fml-line"]);
      if (measured)
        entries.push(["var(--fml-ink)", "predicted, each pool and total", "fml-line fml-dotted"]);
    }
    entries.push([stack.BUDGET_INK, "budget", "fml-line fml-dotted"]);
    this.legend.replaceChildren(
      ...entries.map(([ink, text, shape]) =>
        h("span", {}, h("i", { style: `color:${ink}`, class: shape }), text),
      ),
    );
  }

  // --- pointer and keyboard ---

  private listen(): void {
    const { canvas, axis } = this;
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        if (event.shiftKey) axis.shift(((axis.to - axis.from) * event.deltaY) / 500);
        else axis.zoom(Math.exp(event.deltaY * 0.0015), axis.valueAt(event.offsetX));
        this.surface.redraw();
      },
      { passive: false },
    );
    follow(canvas, (event) => {
      const from = this.places.layerAt(event.offsetX);
      return {
        move: (next) => this.choose(this.range(from, next.offsetX)),
        end: (last, moved) => {
          const object = this.brushOf(this.addressIndex(last.offsetX, last.offsetY));
          this.choose(object && !moved ? object : this.range(from, last.offsetX));
        },
      };
    });
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX, event.offsetY));
    canvas.addEventListener("pointerleave", () => {
      this.tip.hide();
      this.hover(NO_BRUSH);
    });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = this.key(event.key);
      if (!act) return;
      event.preventDefault();
      event.stopPropagation();
      act();
      this.surface.redraw();
    });
  }

  private key(name: string): (() => void) | undefined {
    const last = (this.plan?.layers.length ?? 1) - 1;
    const at = this.chosen.first;
    const go = (layer: number) => () => {
      const one = Math.min(last, Math.max(0, layer));
      this.choose({ weight: "", first: one, last: one });
      this.live.textContent = this.momentWords(one).join(". ");
    };
    const acts: Record<string, () => void> = {
      ArrowLeft: go(at - 1),
      ArrowRight: go(at + 1),
      Home: go(0),
      End: go(last),
      Escape: () => this.choose(NO_BRUSH),
    };
    return acts[name] ?? this.axis.key(name);
  }

  private range(from: number, x: number): Brush {
    const to = this.places.layerAt(x);
    return { weight: "", first: Math.min(from, to), last: Math.max(from, to) };
  }

  private choose(brush: Brush): void {
    if (sameBrush(brush, this.chosen)) return;
    this.setChosen(brush);
    this.host.choose(brush);
  }

  private hover(brush: Brush): void {
    if (sameBrush(brush, this.hovered)) return;
    this.setHovered(brush);
    this.host.hover(brush);
  }

  private point(x: number, y: number): void {
    const { plan, surface } = this;
    if (!plan || !this.memory || x < LEFT || y > surface.height - BOTTOM) {
      this.tip.hide();
      return;
    }
    const value = this.axis.valueAt(x);
    const layer = this.places.layerAt(x);
    const at = this.addressIndex(x, y);
    this.hover(this.brushOf(at) ?? { weight: "", first: layer, last: layer });
    const words = at < 0 ? this.momentWords(layer, value) : objectWords(this.addresses!, at, plan);
    this.tip.show(words, x, y, surface.width, surface.height);
  }

  private momentWords(layer: number, ms = this.axis.valueAt(this.places.x0(layer))): string[] {
    const { memory, plan } = this;
    if (!memory || !plan) return [];
    return moment(plan, memory, layer, this.mode === "time" ? ms : undefined);
  }

  private addressIndex(x: number, y: number): number {
    if (this.mode !== "map" || !this.addresses) return -1;
    return objectAt(this.addresses, this.axis.valueAt(x), this.bytesAt(y));
  }

  /** An object of the map, as the other views show it. */
  private brushOf(at: number): Brush | undefined {
    if (at < 0) return undefined;
    const { names, first, last } = this.addresses!;
    const weight = this.plan?.weights.includes(names[at]!) ? names[at]! : "";
    return { weight, first: first[at]!, last: last[at]! };
  }

  // --- places ---

  private bytesAt(y: number): number {
    const { top, floor, most } = this.plot;
    return ((floor - y) / (floor - top)) * most;
  }

  private get plot(): stack.Plot {
    const { memory, mode, preview } = this;
    const shown = mode === "time" ? (memory?.predicted ?? stack.NOTHING) : this.layers;
    const tallest = Math.max(
      preview?.budgetBytes ?? memory?.budgetBytes ?? 1,
      mode === "map" ? (this.addresses?.topBytes ?? 0) : stack.most(shown),
      memory && mode === "time" ? stack.most(memory.measured) : 0,
    );
    return {
      context: this.surface.context,
      axis: this.axis,
      theme: this.surface.theme,
      top: TOP,
      floor: this.surface.height - BOTTOM,
      most: tallest * 1.04,
    };
  }

  // --- drawing ---

  private draw(): void {
    const { memory, surface, axis, mode, preview } = this;
    if (!memory) return;
    axis.width = Math.max(1, surface.width - LEFT - RIGHT);
    const { plot } = this;
    const { context, theme } = surface;
    const words = mode === "time" ? formatMs : String;
    drawMarks(context, axis, theme, plot.top, plot.floor, words);
    stack.drawBytes(plot);
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, axis.width, surface.height);
    context.clip();
    const layers = mode === "layers";
    const predicted = layers ? this.layers : memory.predicted;
    const measured = layers ? memory.measuredLayers : memory.measured;
    if (mode === "map") {
      if (this.addresses) drawAddresses(plot, this.addresses, this.chosen, this.hovered);
    } else if (preview) {
      stack.drawStack(plot, predicted, 0.25);
      const level = layers ? preview.overLayers : preview.overTime;
      const bin = (layers ? this.end : preview.coldMs) / level.length;
      const x = level.map((_, i) => i * bin);
      const none = new Float64Array(level.length);
      const about = { x, end: bin * level.length, pools: [none, none, level] };
      stack.drawTotal(plot, about, theme.ink, [3, 3]);
    } else if (measured.x.length) {
      stack.drawStack(plot, measured);
      stack.drawTotal(plot, measured, theme.ink);
      stack.drawPools(plot, predicted, theme.ink);
    } else {
      stack.drawStack(plot, predicted);
      stack.drawTotal(plot, predicted, theme.ink);
    }
    stack.drawBudget(plot, preview?.budgetBytes ?? memory.budgetBytes);
    this.drawBrush(plot, this.chosen, 0.16, true);
    this.drawBrush(plot, this.hovered, 0.08, false);
    context.restore();
    if (!preview) this.told(memory.budgetBytes);
  }

  private drawBrush(plot: stack.Plot, brush: Brush, alpha: number, edged: boolean): void {
    const [first, last] = this.plan ? layersOf(brush, this.plan) : [-1, -1];
    if (first < 0) return;
    const { context, theme } = this.surface;
    const [from, to] = [this.places.x0(first), this.places.x1(last)];
    context.globalAlpha = alpha;
    context.fillStyle = theme.accent;
    context.fillRect(from, plot.top, Math.max(1.5, to - from), plot.floor - plot.top);
    context.globalAlpha = 1;
    if (!edged) return;
    context.strokeStyle = theme.accent;
    context.lineWidth = 1;
    context.strokeRect(from, plot.top, Math.max(1.5, to - from), plot.floor - plot.top);
  }

  /** Says that the plan of a budget is on the screen; for what measures how long that took. */
  private told(budget: number): void {
    this.element.dispatchEvent(new CustomEvent("fml-drawn", { detail: budget, bubbles: true }));
  }
}
