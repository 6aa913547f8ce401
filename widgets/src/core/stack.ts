/** Bytes held in each pool as steps, stacked; how memory is drawn everywhere. */

import type { Axis } from "./axis";
import { niceStep } from "./axis";
import type { Theme } from "./theme";
import { formatBytes } from "./units";

/** Of the pools that the budget caps, from the bottom up; mirrors DEVICE_POOLS of trace/runs.py. */
export const POOLS: [string, string][] = [
  ["Staging ring", "#d9a441"],
  ["Activations (buffers)", "#4fb3a0"],
  ["Weights (textures)", "#4f7cc4"],
];
export const BUDGET_INK = "#e5484d";

/** Level i holds from x[i] to x[i + 1], the last one to `end`. */
export interface Steps {
  x: ArrayLike<number>;
  end: number;
  /** Bytes, of each pool. */
  pools: ArrayLike<number>[];
}

export const NOTHING: Steps = { x: [], end: 0, pools: [[], [], []] };

/** Steps from values with one pool after another. */
export function steps(x: Float64Array, end: number, held: Float64Array): Steps {
  const count = x.length;
  return { x, end, pools: POOLS.map((_, pool) => held.subarray(pool * count, (pool + 1) * count)) };
}

/** Steps over layers, from values with the pools of one layer after another. */
export function layerSteps(held: Float64Array): Steps {
  const count = held.length / POOLS.length;
  const x = Float64Array.from({ length: count }, (_, layer) => layer);
  const pools = POOLS.map((_, pool) => x.map((layer) => held[POOLS.length * layer + pool]!));
  return { x, end: count, pools };
}

export function totalAt(steps: Steps, i: number): number {
  return steps.pools.reduce((sum, pool) => sum + pool[i]!, 0);
}

export function most(steps: Steps): number {
  let found = 0;
  for (let i = 0; i < steps.x.length; i++) found = Math.max(found, totalAt(steps, i));
  return found;
}

/** The level that holds at `value`, or -1. */
export function levelAt(steps: Steps, value: number): number {
  let [low, high] = [0, steps.x.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps.x[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Where the chart lies on its canvas: bytes are drawn from `floor` up to `top`, px. */
export interface Plot {
  context: CanvasRenderingContext2D;
  axis: Axis;
  theme: Theme;
  top: number;
  floor: number;
  /** Bytes at the top. */
  most: number;
}

export function yAt(plot: Plot, bytes: number): number {
  return plot.floor - (bytes / plot.most) * (plot.floor - plot.top);
}

export function drawStack(plot: Plot, steps: Steps, alpha = 0.75): void {
  const { context, axis } = plot;
  const count = steps.x.length;
  const below = new Float64Array(count);
  const right = (i: number): number => axis.x(i + 1 < count ? steps.x[i + 1]! : steps.end);
  context.globalAlpha = alpha;
  steps.pools.forEach((pool, at) => {
    context.beginPath();
    for (let i = 0; i < count; i++) {
      const y = yAt(plot, below[i]! + pool[i]!);
      context.lineTo(axis.x(steps.x[i]!), y);
      context.lineTo(right(i), y);
    }
    for (let i = count - 1; i >= 0; i--) {
      const y = yAt(plot, below[i]!);
      context.lineTo(right(i), y);
      context.lineTo(axis.x(steps.x[i]!), y);
    }
    context.fillStyle = POOLS[at]![1];
    context.fill();
    for (let i = 0; i < count; i++) below[i]! += pool[i]!;
  });
  context.globalAlpha = 1;
}

/** The total as a line. */
export function drawTotal(plot: Plot, steps: Steps, ink: string, dash: number[] = []): void {
  drawLine(plot, steps, POOLS.length, ink, 1.8, dash);
}

/** The total as a dotted line, and a thinner one above each pool below, where a stack is behind. */
export function drawPools(plot: Plot, steps: Steps, ink: string): void {
  for (let pools = 1; pools < POOLS.length; pools++) {
    if (isEmpty(steps.pools[pools - 1]!)) continue;
    drawLine(plot, steps, pools, ink, 1.2, [2, 3]);
  }
  drawTotal(plot, steps, ink, [2, 3]);
}

function isEmpty(pool: ArrayLike<number>): boolean {
  for (let i = 0; i < pool.length; i++) if (pool[i] !== 0) return false;
  return true;
}

/** A line along the top of the lowest `pools`. */
function drawLine(
  plot: Plot,
  steps: Steps,
  pools: number,
  ink: string,
  width: number,
  dash: number[],
): void {
  const { context, axis } = plot;
  const count = steps.x.length;
  const stacked = steps.pools.slice(0, pools);
  context.beginPath();
  for (let i = 0; i < count; i++) {
    const y = yAt(
      plot,
      stacked.reduce((sum, pool) => sum + pool[i]!, 0),
    );
    context.lineTo(axis.x(steps.x[i]!), y);
    context.lineTo(axis.x(i + 1 < count ? steps.x[i + 1]! : steps.end), y);
  }
  context.strokeStyle = ink;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/** A dashed line across at `bytes`. */
export function drawBudget(plot: Plot, bytes: number): void {
  const { context, axis } = plot;
  const y = yAt(plot, bytes);
  context.beginPath();
  context.moveTo(axis.left, y);
  context.lineTo(axis.left + axis.width, y);
  context.strokeStyle = BUDGET_INK;
  context.lineWidth = 1.6;
  context.setLineDash([6, 4]);
  context.stroke();
  context.setLineDash([]);
}

/** Figures at the left, round ones. */
export function drawBytes(plot: Plot): void {
  const { context, axis, theme } = plot;
  context.fillStyle = theme.soft;
  context.textAlign = "right";
  const step = niceStep(plot.most / 4);
  for (let bytes = 0; bytes <= plot.most; bytes += step) {
    context.fillText(bytes === 0 ? "0" : formatBytes(bytes), axis.left - 8, yAt(plot, bytes));
  }
}
