/** Lanes over layers or over time, and below them a row for each weight. */

import { drawMarks } from "./axis";
import { type Brush, layersOf } from "./brush";
import type { PlanModel } from "./model";
import type { Places } from "./places";
import { BUDGET_INK } from "./stack";
import { FILL, type Theme } from "./theme";
import { formatBytes, formatMs, shorten } from "./units";

export const LEFT = 290; // px, for names
export const RIGHT = 12;
export const ROW = 20;
const LANE = 34;
const LANES = ["disk: loads begin", "transfer: bytes moved", "compute: time", "memory held"];
const AXIS = 26;
export const HEAD = LANES.length * LANE + AXIS;

export const LEGEND: [string, string][] = [
  [FILL.teal, "preloaded"],
  [FILL.orange, "on the device, waits"],
  ["#e0a458", "is read"],
  [FILL.blue, "in use"],
  [FILL.red, "refused"],
];

/** What is drawn of a plan. */
export interface ScheduleScene {
  plan: PlanModel;
  rows: number[]; // weights, in order
  selected: number; // weight
  refused: string; // weight
  /** Layers to which the load of the selected weight is dragged; first -1 for none. */
  drag: { first: number; last: number };
  chosen: Brush;
  hovered: Brush;
  scrolled: number; // px
}

export function drawSchedule(
  context: CanvasRenderingContext2D,
  theme: Theme,
  places: Places,
  scene: ScheduleScene,
  width: number,
  height: number,
): void {
  const { rows, scrolled } = scene;
  const from = Math.max(0, Math.floor(scrolled / ROW));
  const to = Math.min(rows.length, from + Math.ceil((height - HEAD) / ROW) + 1);
  clip(context, 0, HEAD, width, height - HEAD, () => {
    for (let row = from; row < to; row++) {
      drawName(context, theme, scene, row, HEAD + row * ROW - scrolled, width);
    }
  });
  clip(context, LEFT - 3, HEAD, width, height - HEAD, () => {
    for (let row = from; row < to; row++) {
      drawLife(context, places, scene, row, HEAD + row * ROW - scrolled);
    }
  });
  drawLanes(context, theme, places, scene.plan);
  clip(context, LEFT, 0, width, height, () => {
    for (const [brush, alpha] of [
      [scene.chosen, 0.16],
      [scene.hovered, 0.09],
    ] as const) {
      const floor = brush.weight ? HEAD - AXIS : height; // a weight has a row of its own
      drawSpan(context, theme, places, layersOf(brush, scene.plan), alpha, floor);
    }
  });
}

function clip(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  height: number,
  draw: () => void,
): void {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  draw();
  context.restore();
}

function drawName(
  context: CanvasRenderingContext2D,
  theme: Theme,
  scene: ScheduleScene,
  row: number,
  y: number,
  width: number,
): void {
  const weight = scene.rows[row]!;
  const name = scene.plan.weights[weight]!;
  if (weight === scene.selected || name === scene.hovered.weight) {
    context.fillStyle = theme.panel;
    context.fillRect(0, y, width, ROW);
  }
  if (weight === scene.selected) {
    context.fillStyle = theme.accent;
    context.fillRect(0, y, 3, ROW);
  }
  const asked = scene.plan.forced[weight] !== 0;
  context.fillStyle = theme.ink;
  context.textAlign = "left";
  const mark = name === scene.refused ? "✕ " : asked ? "◆ " : "";
  context.fillText(mark + shorten(name, 40), 10, y + ROW / 2);
}

function drawLife(
  context: CanvasRenderingContext2D,
  places: Places,
  scene: ScheduleScene,
  row: number,
  y: number,
): void {
  const { plan, drag } = scene;
  const weight = scene.rows[row]!;
  const bar = (x0: number, x1: number, fill: string, inset: number): void => {
    context.fillStyle = fill;
    context.fillRect(x0, y + inset, Math.max(2, x1 - x0), ROW - 2 * inset);
  };
  const [first, last] = [plan.first[weight]!, plan.last[weight]!];
  const dragged = weight === scene.selected && drag.first >= 0;
  const load = dragged ? drag.first : plan.load[weight]!;
  const kept = plan.pinned[weight] === 1 && !dragged;
  bar(
    places.x0(kept ? 0 : load),
    places.x1(kept ? last : first),
    kept ? FILL.teal : FILL.orange,
    6,
  );
  const read = plan.readMs[weight]!;
  if (places.over === "time" && read >= 0 && !dragged) {
    bar(places.axis.x(read), places.axis.x(plan.hereMs[weight]!), "#e0a458", 7);
  }
  bar(places.x0(first), places.x1(kept ? first : last), FILL.blue, 4);
  const [earliest, latest] = dragged
    ? [drag.first, drag.last]
    : [plan.windowFirst[weight]!, plan.windowLast[weight]!];
  if (earliest >= 0) bracket(context, places.x0(earliest), places.x1(latest), y);
  if (plan.weights[weight] !== scene.refused) return;
  context.strokeStyle = FILL.red;
  context.lineWidth = 1.5;
  context.strokeRect(LEFT - 2, y + 2, places.axis.width + 4, ROW - 4);
}

/** Where the load may begin, by the user's wish. */
function bracket(context: CanvasRenderingContext2D, x0: number, x1: number, y: number): void {
  context.strokeStyle = FILL.violet;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x0, y + 3);
  context.lineTo(x0, y + ROW - 3);
  context.lineTo(Math.max(x0 + 4, x1), y + ROW - 3);
  context.lineTo(Math.max(x0 + 4, x1), y + 3);
  context.stroke();
}

function drawSpan(
  context: CanvasRenderingContext2D,
  theme: Theme,
  places: Places,
  [first, last]: [number, number],
  alpha: number,
  floor: number,
): void {
  if (first < 0) return;
  const x = places.x0(first);
  context.globalAlpha = alpha;
  context.fillStyle = theme.accent;
  context.fillRect(x, 0, Math.max(1.5, places.x1(last) - x), floor);
  context.globalAlpha = 1;
}

/** Bytes that begin to load, bytes that move, time, and bytes held, of each layer. */
function lanes(plan: PlanModel): Float64Array[] {
  const begun = new Float64Array(plan.layers.length);
  const moved = new Float64Array(plan.layers.length);
  plan.weights.forEach((_, weight) => {
    begun[plan.load[weight]!]! += plan.bytes[weight]!;
  });
  plan.moveLayer.forEach((layer, i) => {
    moved[layer]! += plan.moveBytes[i]!;
  });
  const time = plan.endMs.map((end, layer) => end - plan.beginMs[layer]!);
  return [begun, moved, time, begun.map((_, layer) => heldAt(plan, layer))];
}

export function heldAt(plan: PlanModel, layer: number): number {
  return plan.held[3 * layer]! + plan.held[3 * layer + 1]! + plan.held[3 * layer + 2]!;
}

function drawLanes(
  context: CanvasRenderingContext2D,
  theme: Theme,
  places: Places,
  plan: PlanModel,
): void {
  const { axis } = places;
  const levels = lanes(plan);
  const most = levels.map((lane) => Math.max(...lane, 0));
  most[3] = Math.max(most[3]!, plan.budgetBytes);
  const fills = [FILL.orange, FILL.blue, FILL.teal, FILL.violet];
  levels.forEach((lane, i) => {
    const floor = (i + 1) * LANE;
    context.textAlign = "left";
    context.fillStyle = theme.soft;
    context.fillText(LANES[i]!, 10, floor - LANE / 2 + 2);
    context.textAlign = "right";
    const words = i === 2 ? formatMs(most[i]!) : formatBytes(most[i]!);
    context.fillText(words, LEFT - 8, floor - LANE / 2 + 2);
    clip(context, LEFT, floor - LANE, axis.width, LANE, () => {
      context.fillStyle = fills[i]!;
      lane.forEach((value, layer) => {
        const size = most[i]! > 0 ? (value / most[i]!) * (LANE - 8) : 0;
        const x = places.x0(layer);
        context.fillRect(x, floor - size, Math.max(1, places.x1(layer) - x - 0.4), size);
      });
    });
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(LEFT, floor + 0.5);
    context.lineTo(LEFT + axis.width, floor + 0.5);
    context.stroke();
  });
  const budget = 4 * LANE - (plan.budgetBytes / most[3]!) * (LANE - 8);
  context.strokeStyle = BUDGET_INK;
  context.setLineDash([5, 4]);
  context.beginPath();
  context.moveTo(LEFT, budget);
  context.lineTo(LEFT + axis.width, budget);
  context.stroke();
  context.setLineDash([]);
  const words = places.over === "time" ? formatMs : String;
  drawMarks(context, axis, theme, 0, HEAD - AXIS, words);
}
