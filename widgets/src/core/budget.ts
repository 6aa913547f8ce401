/** The budget's slider: marks to jump to, and above them the time that each budget would take. */

import { h } from "./dom";
import { budgetAt, type Sweep } from "./sweep";
import { formatBytes, formatMs } from "./units";

const STEP = 0.5; // percent
const PAGE = 5;
const THUMB = 16; // px; the middle of the thumb is never nearer to the ends than half of it
const REST = 80; // ms without a move until the kernel is asked; meanwhile there is the preview
const CHARACTER = 6.2; // px of a mark's words, about
const SHIFT = 28; // px that they may stand beside their mark
const APART = 6; // px between the words of two marks

/** Told of the thumb. */
export interface BudgetHost {
  /** It begins to move. */
  moves(): void;
  at(percent: number): void;
  /** It stays where it is. */
  rests(): void;
}

export class BudgetView {
  readonly element = h("div", { class: "fml-budget" });
  private readonly input = h("input", {
    type: "range",
    min: 0,
    max: 100,
    step: STEP,
    "aria-label": "Memory budget",
  });
  private readonly curve = svg("polyline", { class: "fml-curve" });
  private readonly here = svg("circle", { r: 3.5, class: "fml-here" });
  private readonly picture = svg("svg", { "aria-hidden": "true" });
  private readonly marks = h("div", { class: "fml-marks" });
  private ends: [number, number] = [0, 0];
  private sweep: Sweep | undefined;
  private readonly resize = new ResizeObserver(() => this.draw());

  private rest = 0; // timer; 0 while the thumb rests

  constructor(
    parent: HTMLElement,
    private readonly host: BudgetHost,
  ) {
    this.picture.append(this.curve, this.here);
    const label = h("span", { class: "fml-budget-label", "aria-hidden": "true" }, "Budget");
    this.element.append(
      label,
      h("div", { class: "fml-track" }, this.picture, this.input, this.marks),
    );
    parent.append(this.element);
    this.input.addEventListener("input", () => this.told());
    this.input.addEventListener("change", () => this.ask());
    this.input.addEventListener("keydown", (event) => {
      const pages: Record<string, number> = { PageUp: PAGE, PageDown: -PAGE };
      const by = pages[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.go(this.percent + by);
    });
    this.resize.observe(this.element);
  }

  dispose(): void {
    this.resize.disconnect();
    this.element.remove();
  }

  get percent(): number {
    return Number(this.input.value);
  }

  /** Where the slider is; a budget given in bytes may lie between two steps. */
  setPercent(percent: number): void {
    if (percent === this.percent) return;
    this.input.step = percent % STEP ? "any" : String(STEP);
    this.input.value = String(percent);
    this.say();
  }

  setEnds(ends: [number, number]): void {
    this.ends = ends;
    this.say();
  }

  setSweep(sweep: Sweep | undefined): void {
    this.sweep = sweep;
    this.draw();
  }

  private go(percent: number): void {
    this.setPercent(Math.min(100, Math.max(0, percent)));
    this.told();
    this.ask();
  }

  private told(): void {
    this.input.step = String(STEP);
    this.say();
    if (this.rest === 0) this.host.moves();
    this.host.at(this.percent);
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.ask(), REST);
  }

  private ask(): void {
    if (this.rest === 0) return; // the kernel knows
    clearTimeout(this.rest);
    this.rest = 0;
    this.host.rests();
  }

  private say(): void {
    const bytes = formatBytes(budgetAt(...this.ends, this.percent));
    this.input.setAttribute("aria-valuetext", `${bytes}, ${this.percent.toFixed(1)} percent`);
    this.point();
  }

  private x(percent: number): number {
    const width = this.input.clientWidth;
    return THUMB / 2 + (percent / 100) * Math.max(0, width - THUMB);
  }

  private draw(): void {
    this.marks.replaceChildren();
    const { sweep } = this;
    this.picture.toggleAttribute("hidden", !sweep);
    if (!sweep || this.input.clientWidth === 0) return;
    const points = Array.from(sweep.percent, (percent) => `${this.x(percent)},${this.y(percent)}`);
    this.curve.setAttribute("points", points.join(" "));
    let free = -Infinity;
    for (const [percent, label, words] of [...sweep.marks].sort((a, b) => a[0] - b[0])) {
      const bytes = formatBytes(budgetAt(sweep.least, sweep.full, percent));
      const said = `${label}: ${bytes}, ${words}`;
      const mark = h("button", { type: "button", title: said, "aria-label": said });
      mark.style.left = `${this.x(percent)}px`;
      // Words that would run into those before move on a little, or are left to the tool tip.
      const first = percent < 8;
      const half = (label.length * CHARACTER) / 2;
      const begin = first ? this.x(percent) : this.x(percent) - half;
      const shift = Math.max(0, free - begin);
      if (shift <= SHIFT) {
        free = begin + shift + 2 * half + APART;
        mark.append(h("span", { style: `margin-left: ${shift}px` }, label));
        mark.classList.toggle("fml-first", first);
      }
      mark.addEventListener("click", () => this.go(percent));
      this.marks.append(mark);
    }
    this.point();
  }

  /** The time at a budget, px from the top of the picture. */
  private y(percent: number): number {
    const { timeMs } = this.sweep!;
    const [low, high] = [Math.min(...timeMs), Math.max(...timeMs)];
    return 4 + 20 * (1 - (this.timeAt(percent) - low) / Math.max(1e-9, high - low));
  }

  private timeAt(percent: number): number {
    const { percent: at, timeMs } = this.sweep!;
    const next = Math.max(
      1,
      at.findIndex((one) => one >= percent),
    );
    const share = Math.min(1, (percent - at[next - 1]!) / (at[next]! - at[next - 1]!));
    return timeMs[next - 1]! + share * (timeMs[next]! - timeMs[next - 1]!);
  }

  private point(): void {
    if (!this.sweep) return;
    this.here.setAttribute("cx", String(this.x(this.percent)));
    this.here.setAttribute("cy", String(this.y(this.percent)));
    const runs = this.sweep.warm ? "later runs" : "first run";
    this.picture.parentElement!.title =
      `${runs} about ${formatMs(this.timeAt(this.percent))} at this budget`;
  }
}

function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number>,
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}
