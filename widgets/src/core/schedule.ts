/** The life of every weight, to be looked at and edited by pointer or by keyboard. */

import { Axis } from "./axis";
import { type Brush, type Brushable, type BrushHost, NO_BRUSH, sameBrush } from "./brush";
import { choice, h } from "./dom";
import { type Drag, follow } from "./drag";
import type { PlanModel } from "./model";
import { type Over, Places } from "./places";
import { Rows } from "./rows";
import * as chart from "./schedule_chart";
import { type EditHost, Edits } from "./schedule_edits";
import { layerWords, life, windowWords } from "./schedule_words";
import { Surface } from "./surface";

export interface ScheduleHost extends BrushHost, EditHost {
  /** The plan is to be compared with a baseline; "" for none. */
  against(baseline: string): void;
}

/** Mirrors `ScheduleView.say`. */
export interface Notes {
  diff: [string, string[]][];
  refused: [string, string] | null;
  undo: boolean;
  redo: boolean;
}

const { HEAD, LEFT, RIGHT, ROW } = chart;
const KINDS: [string, string][] = [
  ["all", "all weights"],
  ["streamed", "streamed"],
  ["preloaded", "preloaded"],
  ["edited", "edited"],
];
const OVER: [string, string][] = [
  ["layers", "layers"],
  ["time", "predicted time"],
];
/** Mirrors the baselines among `Strategy` of plan/plan.py. */
const AGAINST: [string, string][] = [
  ["", "the plan before"],
  ["preload", "full preload"],
  ["always-next", "always-next"],
  ["same-op", "same-op"],
];
const NO_DRAG = { first: -1, last: -1 };

export class ScheduleView implements Brushable {
  readonly element = h("div", { class: "fml-schedule", role: "group", "aria-label": "Schedule" });
  private readonly canvas = h("canvas", {
    tabindex: "0",
    role: "application",
    "aria-label":
      "Weights; up and down choose one, left and right move its load, p preloads it, s streams it, " +
      "[ forbids earlier loads, ] later ones, f leaves it to the planner",
  });
  private readonly scroller = h("div", { class: "fml-scroller" });
  private readonly spacer = h("div");
  private readonly words = h("p", { class: "fml-soft fml-words", role: "status" });
  private readonly alert = h("div", {
    class: "fml-error fml-refused",
    role: "alert",
    hidden: true,
  });
  private readonly diff = h("div", { class: "fml-diff fml-soft" });
  private readonly search = h("input", {
    type: "search",
    placeholder: "Search weights",
    "aria-label": "Search weights",
  });
  private readonly edits: Edits;
  private readonly axis = new Axis(LEFT);
  private readonly places = new Places(this.axis);
  private readonly rows = new Rows(this.scroller);
  private readonly surface: Surface;
  private notes: Notes = { diff: [], refused: null, undo: false, redo: false };
  private plan: PlanModel | undefined;
  private kind = "all"; // of KINDS
  private selected = -1; // weight
  private drag = NO_DRAG; // layers to which the load of the selected weight is dragged
  private chosen: Brush = NO_BRUSH;
  private hovered: Brush = NO_BRUSH;

  constructor(
    parent: HTMLElement,
    private readonly host: ScheduleHost,
  ) {
    this.edits = new Edits(host);
    this.build();
    parent.append(this.element);
    this.surface = new Surface(this.canvas, this.scroller, () => this.draw());
    this.listen();
    this.setNotes(this.notes);
    this.arrange();
  }

  dispose(): void {
    this.surface.dispose();
    this.element.remove();
  }

  // --- what is shown ---

  setPlan(plan: PlanModel | undefined): void {
    const name = this.plan?.weights[this.selected];
    this.plan = plan;
    this.places.ends = plan?.endMs ?? [];
    this.selected = name === undefined ? -1 : (plan?.weights.indexOf(name) ?? -1);
    this.axis.stretch(this.places.end);
    this.arrange();
  }

  setNotes(notes: Notes): void {
    this.notes = notes;
    this.edits.setHistory(notes.undo, notes.redo);
    this.alert.hidden = notes.refused === null;
    this.alert.textContent = notes.refused ? `${notes.refused[0]}: ${notes.refused[1]}` : "";
    const lines = notes.diff.map(([what, rows]) =>
      h("div", {}, h("strong", {}, what), ` ${rows.length ? rows.join(" · ") : "the same"}`),
    );
    this.diff.replaceChildren(...lines);
    this.surface.redraw();
  }

  /** Selects a weight by name, as a click on its row does. */
  select(weight: string): void {
    this.choose(this.plan?.weights.indexOf(weight) ?? -1);
  }

  setHovered(brush: Brush): void {
    this.hovered = brush;
    this.surface.redraw();
  }

  setChosen(brush: Brush): void {
    if (sameBrush(brush, this.chosen)) return;
    this.chosen = brush;
    const weight = this.plan?.weights.indexOf(brush.weight) ?? -1;
    if (weight >= 0) this.show(weight);
    this.surface.redraw();
  }

  private build(): void {
    const filter = choice("Show", KINDS, (value) => {
      this.kind = value;
      this.arrange();
    });
    const over = choice("Over", OVER, (value) => {
      this.places.over = value as Over;
      this.axis.show(this.places.end);
      this.surface.redraw();
    });
    const against = choice("Compare with", AGAINST, (value) => this.host.against(value));
    const legend = chart.LEGEND.map(([colour, text]) =>
      h("span", {}, h("i", { style: `color:${colour}` }), text),
    );
    this.scroller.append(this.canvas, this.spacer);
    this.element.append(
      this.edits.element,
      h(
        "div",
        { class: "fml-bar" },
        h("label", { class: "fml-field fml-search" }, this.search),
        filter.element,
        over.element,
        against.element,
        h("div", { class: "fml-legend" }, ...legend),
      ),
      h("div", { class: "fml-rows" }, this.scroller, this.alert),
      this.words,
      this.diff,
    );
  }

  private listen(): void {
    const { canvas, axis } = this;
    this.scroller.addEventListener("scroll", () => this.surface.redraw());
    this.search.addEventListener("input", () => this.arrange());
    follow(canvas, (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) this.point(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointerleave", () => this.hover(NO_BRUSH));
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey) return; // rows scroll
        event.preventDefault();
        axis.zoom(Math.exp(event.deltaY * 0.0015), axis.valueAt(event.offsetX));
        this.surface.redraw();
      },
      { passive: false },
    );
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  private arrange(): void {
    this.rows.arrange(this.plan, this.kind, this.search.value);
    this.describe();
    this.surface.redraw();
  }

  // --- edits ---

  private press(event: PointerEvent): Drag | undefined {
    const { plan, places } = this;
    const from = places.layerAt(event.offsetX);
    if (!plan) return undefined;
    if (event.offsetY < HEAD) {
      if (event.offsetX < LEFT) return undefined;
      const range = (next: PointerEvent): void => {
        const to = places.layerAt(next.offsetX);
        this.tell({ weight: "", first: Math.min(from, to), last: Math.max(from, to) });
      };
      return { move: range, end: range };
    }
    const weight = this.rows.weightAt(event.offsetY);
    this.choose(weight);
    if (weight < 0 || event.offsetX < LEFT) return undefined;
    const use = plan.first[weight]!;
    return {
      move: (next) => {
        const to = Math.min(use, places.layerAt(next.offsetX));
        const start = next.shiftKey ? Math.min(from, use) : to;
        this.drag = { first: Math.min(start, to), last: Math.max(start, to) };
        const words = windowWords(this.drag.first, this.drag.last);
        this.words.textContent = `${words}: ${plan.layers[to]}`;
        this.surface.redraw();
      },
      end: (_, moved) => {
        const { first, last } = this.drag;
        this.drag = NO_DRAG;
        if (moved && first >= 0) this.edits.window(first, last);
        this.surface.redraw();
      },
      cancel: () => {
        this.drag = NO_DRAG;
        this.describe();
        this.surface.redraw();
      },
    };
  }

  private key(event: KeyboardEvent): void {
    const control = event.ctrlKey || event.metaKey;
    if (!control && event.target !== this.canvas) return;
    const act = this.edits.key(event) ?? (control ? undefined : this.walk(event.key));
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  /** What a key does that edits nothing. */
  private walk(key: string): (() => void) | undefined {
    const { shown } = this.rows;
    const at = shown.indexOf(this.selected);
    const go = (row: number) => () =>
      this.choose(shown[Math.min(shown.length - 1, Math.max(0, row))] ?? -1);
    const walks: Record<string, () => void> = {
      ArrowDown: go(at + 1),
      ArrowUp: go(at - 1),
      Home: go(0),
      End: go(shown.length - 1),
      Escape: () => this.choose(-1),
    };
    const zoom = this.axis.key(key);
    const zooms = (): void => {
      zoom?.();
      this.surface.redraw();
    };
    return walks[key] ?? (zoom && zooms);
  }

  /** Selects a weight here and in the other views; -1 lets go. */
  private choose(weight: number): void {
    this.show(weight);
    this.tell(this.brushOf(weight));
  }

  private show(weight: number): void {
    this.selected = weight;
    this.rows.reveal(this.rows.indexOf(weight));
    this.describe();
    this.surface.redraw();
  }

  private brushOf(weight: number): Brush {
    const { plan } = this;
    if (!plan || weight < 0) return NO_BRUSH;
    const [first, last] = [plan.load[weight]!, plan.last[weight]!];
    return { weight: plan.weights[weight]!, first, last };
  }

  private tell(brush: Brush): void {
    if (sameBrush(brush, this.chosen)) return;
    this.chosen = brush;
    this.host.choose(brush);
    this.surface.redraw();
  }

  private hover(brush: Brush): void {
    if (sameBrush(brush, this.hovered)) return;
    this.setHovered(brush);
    this.host.hover(brush);
  }

  // --- words ---

  private describe(): void {
    const { plan, selected } = this;
    this.edits.select(plan, selected);
    if (!plan) this.words.textContent = "There is no plan: move the budget, or undo edits.";
    else if (selected >= 0) this.words.textContent = life(plan, selected);
    else if (this.rows.shown.length === 0) {
      this.words.textContent = "No weight is like that: change the search or what is shown.";
    } else {
      this.words.textContent =
        "Choose a weight, then pin it or move its load. Drag its bar to load it at another layer; " +
        "with Shift, drag over the layers at which its load may begin.";
    }
  }

  private point(x: number, y: number): void {
    const { plan } = this;
    const weight = this.rows.weightAt(y);
    if (plan && weight >= 0) {
      this.words.textContent = life(plan, weight);
      this.hover(this.brushOf(weight));
    } else if (plan && x >= LEFT && y < HEAD) {
      const layer = this.places.layerAt(x);
      this.words.textContent = layerWords(plan, layer);
      this.hover({ weight: "", first: layer, last: layer });
    } else {
      this.describe();
      this.hover(NO_BRUSH);
    }
  }

  // --- drawing ---

  private draw(): void {
    const { plan, rows, selected, drag, chosen, hovered, scroller, surface } = this;
    const { context, theme, width, height } = surface;
    this.axis.width = Math.max(1, width - LEFT - RIGHT);
    this.spacer.style.height = `${Math.max(0, HEAD + rows.shown.length * ROW - height)}px`;
    if (!plan) return;
    rows.follow(selected, height);
    const refused = this.notes.refused?.[0] ?? "";
    const scrolled = scroller.scrollTop;
    const scene = { plan, rows: rows.shown, selected, refused, drag, chosen, hovered, scrolled };
    chart.drawSchedule(context, theme, this.places, scene, width, height);
    this.placeAlert(rows.indexOf(plan.weights.indexOf(refused)));
  }

  /** The refusal stands below the row that it is about, or at the top where that is not seen. */
  private placeAlert(row: number): void {
    if (this.alert.hidden) return;
    const { height, width } = this.surface;
    const y = HEAD + (row + 1) * ROW - this.scroller.scrollTop;
    const seen = row >= 0 && y > HEAD && y < height;
    const below = y + this.alert.offsetHeight < height;
    const at = seen ? (below ? y : y - ROW - this.alert.offsetHeight) : HEAD;
    this.alert.style.top = `${at}px`;
    const x = Math.max(LEFT, this.places.x0(this.edits.at));
    this.alert.style.left = `${Math.min(x, width - this.alert.offsetWidth - RIGHT)}px`;
  }
}
