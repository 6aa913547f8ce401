/** What a run did over time: three lanes, and the memory that it held below. */

import { Axis, drawMarks } from "./axis";
import { choice, h } from "./dom";
import * as stack from "./stack";
import { Surface } from "./surface";
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
  private readonly chart = h("div", { class: "fml-chart" }, this.canvas);
  private readonly words = h("p", { class: "fml-soft fml-words", role: "status" });
  private readonly surface: Surface;
  private readonly axis = new Axis(LEFT); // ms
  private run = 0;
  private memory: stack.Steps = stack.NOTHING; // of the run

  constructor(
    parent: HTMLElement,
    private readonly trace: TimelineModel,
  ) {
    const legend = h("div", { class: "fml-legend" });
    const entries: [string, string][] = [
      ...trace.kinds.map((kind, i): [string, string] => [trace.colours[i]!, kind]),
      ...stack.POOLS.map(([name, colour]): [string, string] => [colour, name]),
      [stack.BUDGET_INK, `budget, ${formatBytes(trace.budgetBytes)}`],
    ];
    for (const [colour, text] of entries) {
      legend.append(h("span", {}, h("i", { style: `color:${colour}` }), text));
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
      this.chart,
      this.words,
    );
    parent.append(this.element);
    this.surface = new Surface(this.canvas, this.chart, () => this.draw());
    this.listen();
    this.choose(0);
  }

  dispose(): void {
    this.surface.dispose();
    this.element.remove();
  }

  /** Shows a run from its start to its end. */
  choose(run: number): void {
    const { trace } = this;
    this.run = run;
    this.axis.show(trace.runMs[run] ?? 1);
    const [first, last] = [trace.runSamples[run] ?? 0, trace.runSamples[run + 1] ?? 0];
    const count = trace.time.length;
    this.memory = {
      x: trace.time.subarray(first, last),
      end: trace.runMs[run] ?? 0,
      pools: stack.POOLS.map((_, pool) =>
        trace.held.subarray(pool * count + first, pool * count + last),
      ),
    };
    this.hint();
    this.surface.redraw();
  }

  private hint(): void {
    this.words.textContent = this.trace.runMs.length
      ? "Point at a bar to see what it is. Scroll to zoom, drag to move."
      : "This trace holds no run: record one with flashmem-lab run MODEL --trace FILE.trace.json";
  }

  private listen(): void {
    const { canvas, axis } = this;
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        axis.zoom(Math.exp(event.deltaY * 0.0015), axis.valueAt(event.offsetX));
        this.surface.redraw();
      },
      { passive: false },
    );
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) {
        axis.shift((-event.movementX * (axis.to - axis.from)) / axis.width);
        this.surface.redraw();
      } else this.point(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("keydown", (event) => {
      const act = axis.key(event.key);
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      act();
      this.surface.redraw();
    });
  }

  /** Events of the run shown: first and one past the last. */
  private get events(): [number, number] {
    return [this.trace.runEvents[this.run] ?? 0, this.trace.runEvents[this.run + 1] ?? 0];
  }

  private point(x: number, y: number): void {
    const { trace, axis, memory } = this;
    const ms = axis.valueAt(x);
    const lane = Math.floor((y - TOP) / LANE);
    const near = (2 * (axis.to - axis.from)) / axis.width;
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
    const at = stack.levelAt(memory, ms);
    if (lane < LANES.length || at < 0 || x < LEFT) {
      this.hint();
      return;
    }
    const held = stack.POOLS.map(
      ([name], pool) => `${name} ${formatBytes(memory.pools[pool]![at]!)}`,
    );
    this.words.textContent = `at ${formatMs(Math.max(0, ms))}: ${held.join(" · ")}`;
  }

  private draw(): void {
    const { axis, trace, memory } = this;
    const { context, width, height, theme } = this.surface;
    axis.width = Math.max(1, width - LEFT - RIGHT);
    this.drawAxis(height);
    const most = Math.max(trace.budgetBytes, stack.most(memory)) * 1.05;
    const top = TOP + LANES.length * LANE + GAP;
    const plot: stack.Plot = { context, axis, theme, top, floor: height - BOTTOM, most };
    stack.drawBytes(plot);
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, axis.width, height);
    context.clip();
    const [first, last] = this.events;
    for (let i = first; i < last; i++) {
      const [x0, x1] = [axis.x(trace.begin[i]!), axis.x(trace.end[i]!)];
      if (x1 < LEFT || x0 > width) continue;
      const stalls = trace.kinds[trace.kind[i]!]!.startsWith("stall");
      context.globalAlpha = stalls ? 0.5 : 1;
      context.fillStyle = trace.colours[trace.kind[i]!]!;
      context.fillRect(x0, TOP + trace.lane[i]! * LANE + 4, Math.max(0.6, x1 - x0), LANE - 8);
    }
    context.globalAlpha = 1;
    stack.drawStack(plot, memory);
    stack.drawBudget(plot, trace.budgetBytes);
    context.restore();
  }

  private drawAxis(height: number): void {
    const { context, theme } = this.surface;
    context.textAlign = "right";
    context.fillStyle = theme.soft;
    LANES.forEach((name, i) => {
      context.fillText(name, LEFT - 8, TOP + LANE * (i + 0.5));
    });
    drawMarks(this.surface.context, this.axis, theme, TOP, height - BOTTOM, formatMs);
  }
}
