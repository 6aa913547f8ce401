/** What a run did over time: three lanes, and the memory that it held below. */

import { choice, h } from "./dom";
import { readTheme, type Theme, watchTheme } from "./theme";
import { formatBytes, formatMs, shorten } from "./units";
import { decode } from "./wire";

/** Mirrors views/timeline_data.py. */
export interface TimelineModel {
  model: string;
  device: string;
  strategy: string;
  precision: string;
  origin: string;
  budgetBytes: number;
  layers: string[];
  kinds: string[];
  colours: string[]; // of the kinds
  names: string[];
  runEvents: number[]; // first event of each run, and their number
  runSamples: number[]; // first memory sample of each run, and their number
  runMs: number[];
  lane: Uint8Array;
  kind: Uint32Array;
  name: Uint32Array;
  layer: Int32Array;
  begin: Float64Array; // ms from the start of the run
  end: Float64Array;
  bytes: Float64Array;
  time: Float64Array; // of each sample, ms
  held: Float64Array; // staging of all samples, then buffers, then textures
}

export function decodeTimeline(bytes: DataView): TimelineModel {
  const { header, arrays } = decode<Partial<TimelineModel>>(bytes, "flashmem-lab/timeline-view/1");
  return { ...header, ...arrays } as TimelineModel;
}

const LANES = ["disk", "transfer", "compute"];
const POOLS: [string, string][] = [
  ["Staging ring", "#d9a441"],
  ["Activations (buffers)", "#4fb3a0"],
  ["Weights (textures)", "#4f7cc4"],
];
const BUDGET_INK = "#e5484d";
const LEFT = 84; // px, for names and figures
const RIGHT = 14;
const TOP = 10;
const LANE = 30;
const GAP = 34; // between lanes and memory
const BOTTOM = 26;

export class TimelineView {
  readonly element = h("div", { class: "fml-schedule", role: "group", "aria-label": "Trace" });
  private readonly canvas = h("canvas", {
    tabindex: "0",
    role: "img",
    "aria-label": "Lanes and memory over time; arrow keys move, + and − zoom, 0 shows all",
  });
  private readonly context = this.canvas.getContext("2d")!;
  private readonly words = h("p", { class: "fml-soft fml-words", role: "status" });
  private theme: Theme;
  private run = 0;
  private from = 0; // ms at the left edge
  private to = 1; // ms at the right edge
  private readonly stops: (() => void)[] = [];

  constructor(
    parent: HTMLElement,
    private readonly trace: TimelineModel,
  ) {
    const legend = h("div", { class: "fml-legend" });
    const entries: [string, string][] = [
      ...trace.kinds.map((kind, i): [string, string] => [trace.colours[i]!, kind]),
      ...POOLS.map(([name, colour]): [string, string] => [colour, name]),
      [BUDGET_INK, `budget, ${formatBytes(trace.budgetBytes)}`],
    ];
    for (const [colour, text] of entries) {
      legend.append(h("span", {}, h("i", { style: `background:${colour}` }), text));
    }
    const runs = trace.runMs.map((ms, i): [string, string] => [
      String(i),
      `${i === 0 ? "first (cold)" : `number ${i + 1}`}, ${formatMs(ms)}`,
    ]);
    const said = `${trace.model} on ${trace.device}, ${trace.precision}, ${trace.strategy}`;
    const origin = trace.origin === "simulated" ? "predicted" : "measured";
    this.element.append(
      h(
        "div",
        { class: "fml-bar" },
        h("strong", {}, said),
        h("span", { class: "fml-soft" }, origin),
        choice("Run", runs, (value) => this.choose(Number(value))).element,
      ),
      legend,
      h("div", { class: "fml-chart" }, this.canvas),
      this.words,
    );
    parent.append(this.element);
    this.theme = readTheme(this.element);
    this.listen();
    this.choose(0);
  }

  dispose(): void {
    for (const stop of this.stops) stop();
    this.element.remove();
  }

  /** Shows a run from its start to its end. */
  choose(run: number): void {
    this.run = run;
    this.from = 0;
    this.to = Math.max(this.trace.runMs[run] ?? 1, 1e-6);
    this.hint();
    this.draw();
  }

  private hint(): void {
    this.words.textContent = this.trace.runMs.length
      ? "Point at a bar to see what it is. Scroll to zoom, drag to move."
      : "This trace holds no run: record one with flashmem-lab run MODEL --trace FILE.trace.json";
  }

  private listen(): void {
    const { canvas } = this;
    const resize = new ResizeObserver(() => {
      canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
      canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
      this.draw();
    });
    resize.observe(canvas);
    const unwatch = watchTheme(() => {
      this.theme = readTheme(this.element);
      this.draw();
    });
    this.stops.push(() => resize.disconnect(), unwatch);
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY * 0.0015), this.timeAt(event.offsetX));
      },
      { passive: false },
    );
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.shift((-event.movementX * (this.to - this.from)) / this.width);
      else this.point(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = (this.to - this.from) / 10;
      const middle = (this.from + this.to) / 2;
      const acts: Record<string, () => void> = {
        ArrowLeft: () => this.shift(-step),
        ArrowRight: () => this.shift(step),
        "+": () => this.zoom(0.7, middle),
        "-": () => this.zoom(1.4, middle),
        "0": () => this.choose(this.run),
      };
      const act = acts[event.key];
      if (!act) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    });
  }

  private get width(): number {
    return Math.max(1, this.canvas.clientWidth - LEFT - RIGHT);
  }

  private timeAt(x: number): number {
    return this.from + ((x - LEFT) / this.width) * (this.to - this.from);
  }

  private xAt(ms: number): number {
    return LEFT + ((ms - this.from) / (this.to - this.from)) * this.width;
  }

  private zoom(factor: number, around: number): void {
    const most = Math.max(this.trace.runMs[this.run] ?? 1, 1e-6);
    const span = Math.min(most, Math.max(most / 1e5, (this.to - this.from) * factor));
    const share = (around - this.from) / (this.to - this.from);
    this.from = around - share * span;
    this.to = this.from + span;
    this.shift(0);
  }

  private shift(ms: number): void {
    const most = Math.max(this.trace.runMs[this.run] ?? 1, 1e-6);
    const span = this.to - this.from;
    this.from = Math.min(Math.max(0, this.from + ms), most - span);
    this.to = this.from + span;
    this.draw();
  }

  /** Events of the run shown: first and one past the last. */
  private get events(): [number, number] {
    return [this.trace.runEvents[this.run] ?? 0, this.trace.runEvents[this.run + 1] ?? 0];
  }

  private point(x: number, y: number): void {
    const { trace } = this;
    const ms = this.timeAt(x);
    const lane = Math.floor((y - TOP) / LANE);
    const near = (2 * (this.to - this.from)) / this.width;
    const [first, last] = this.events;
    for (let i = first; i < last && lane < LANES.length; i++) {
      if (trace.lane[i] !== lane || trace.begin[i]! - near > ms || trace.end[i]! + near < ms)
        continue;
      const layer = trace.layers[trace.layer[i]!];
      const pieces = [
        trace.kinds[trace.kind[i]!]!,
        shorten(trace.names[trace.name[i]!]!, 60),
        formatMs(trace.end[i]! - trace.begin[i]!),
        `from ${formatMs(trace.begin[i]!)}`,
      ];
      if (trace.bytes[i]) pieces.push(formatBytes(trace.bytes[i]!));
      if (layer) pieces.push(`layer ${trace.layer[i]}: ${shorten(layer, 50)}`);
      this.words.textContent = pieces.join(" · ");
      return;
    }
    const [start, stop] = this.samples;
    let at = start;
    while (at + 1 < stop && trace.time[at + 1]! <= ms) at += 1;
    if (lane < LANES.length || at >= stop || x < LEFT) {
      this.hint();
      return;
    }
    const held = POOLS.map(([name], pool) => `${name} ${formatBytes(this.heldBy(pool, at))}`);
    this.words.textContent = `at ${formatMs(Math.max(0, ms))}: ${held.join(" · ")}`;
  }

  private get samples(): [number, number] {
    return [this.trace.runSamples[this.run] ?? 0, this.trace.runSamples[this.run + 1] ?? 0];
  }

  private heldBy(pool: number, sample: number): number {
    return this.trace.held[pool * this.trace.time.length + sample]!;
  }

  private draw(): void {
    const { context, canvas, trace, theme } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0 || height === 0) return;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${theme.font}`;
    context.textBaseline = "middle";
    this.drawAxis(height);
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width, height);
    context.clip();
    const [first, last] = this.events;
    for (let i = first; i < last; i++) {
      const [x0, x1] = [this.xAt(trace.begin[i]!), this.xAt(trace.end[i]!)];
      if (x1 < LEFT || x0 > width) continue;
      const stalls = trace.kinds[trace.kind[i]!]!.startsWith("stall");
      context.globalAlpha = stalls ? 0.5 : 1;
      context.fillStyle = trace.colours[trace.kind[i]!]!;
      context.fillRect(x0, TOP + trace.lane[i]! * LANE + 4, Math.max(0.6, x1 - x0), LANE - 8);
    }
    context.globalAlpha = 1;
    this.drawMemory(height);
    context.restore();
  }

  private drawAxis(height: number): void {
    const { context, theme } = this;
    context.textAlign = "right";
    context.fillStyle = theme.soft;
    LANES.forEach((name, i) => {
      context.fillText(name, LEFT - 8, TOP + LANE * (i + 0.5));
    });
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.textAlign = "center";
    const step = niceStep((this.to - this.from) / 8);
    for (let ms = Math.ceil(this.from / step) * step; ms <= this.to; ms += step) {
      const x = Math.round(this.xAt(ms)) + 0.5;
      context.globalAlpha = 0.5;
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, height - BOTTOM);
      context.stroke();
      context.globalAlpha = 1;
      context.fillText(ms === 0 ? "0" : formatMs(ms), x, height - BOTTOM / 2);
    }
  }

  private drawMemory(height: number): void {
    const { context, trace, theme } = this;
    const top = TOP + LANES.length * LANE + GAP;
    const floor = height - BOTTOM;
    const [first, last] = this.samples;
    let most = trace.budgetBytes;
    for (let i = first; i < last; i++) most = Math.max(most, this.total(i));
    const yAt = (bytes: number): number => floor - (bytes / (most * 1.05)) * (floor - top);
    const below = new Float64Array(last - first);
    POOLS.forEach(([, colour], pool) => {
      context.beginPath();
      for (let i = first; i < last; i++) {
        const [x, y] = [this.xAt(trace.time[i]!), yAt(below[i - first]! + this.heldBy(pool, i))];
        if (i > first) context.lineTo(x, yAt(below[i - 1 - first]! + this.heldBy(pool, i - 1)));
        context.lineTo(x, y);
      }
      const end = this.xAt(trace.runMs[this.run] ?? 0);
      if (last > first) {
        context.lineTo(end, yAt(below[last - 1 - first]! + this.heldBy(pool, last - 1)));
      }
      for (let i = last - 1; i >= first; i--) {
        const next = i + 1 < last ? this.xAt(trace.time[i + 1]!) : end;
        context.lineTo(next, yAt(below[i - first]!));
        context.lineTo(this.xAt(trace.time[i]!), yAt(below[i - first]!));
      }
      context.globalAlpha = 0.75;
      context.fillStyle = colour;
      context.fill();
      for (let i = first; i < last; i++) below[i - first]! += this.heldBy(pool, i);
    });
    context.globalAlpha = 1;
    context.strokeStyle = BUDGET_INK;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.moveTo(LEFT, yAt(trace.budgetBytes));
    context.lineTo(LEFT + this.width, yAt(trace.budgetBytes));
    context.stroke();
    context.setLineDash([]);
    context.restore();
    context.save();
    context.fillStyle = theme.soft;
    context.textAlign = "right";
    const step = niceStep(most / 4);
    for (let bytes = 0; bytes <= most * 1.02; bytes += step) {
      context.fillText(formatBytes(bytes), LEFT - 8, yAt(bytes));
    }
  }

  private total(sample: number): number {
    return POOLS.reduce((sum, _, pool) => sum + this.heldBy(pool, sample), 0);
  }
}

/** 1, 2 or 5 times a power of ten, at least `rough`. */
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-9)));
  const factor = [1, 2, 5, 10].find((one) => one * power >= rough) ?? 10;
  return factor * power;
}
