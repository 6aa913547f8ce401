/** What a node's colour says: its class, its weight, where its weights are, how long it takes. */

import type { Groups } from "./groups";
import { CLASSES, FREE_CLASS, type GraphModel, type PlanModel } from "./model";
import { FILL, heat } from "./theme";
import { formatBytes, formatMs } from "./units";

export type ColourBy = "class" | "weight" | "residency" | "time";

export const COLOUR_BY: [ColourBy, string][] = [
  ["class", "operator class"],
  ["weight", "weight bytes"],
  ["residency", "weights on the device"],
  ["time", "time"],
];

export interface Painting {
  /** Of each item. */
  fill: string[];
  legend: [string, string][];
}

const CLASS_FILL = [FILL.teal, FILL.blue, FILL.violet, FILL.orange, FILL.pale, FILL.pale];

const HELD: [string, string][] = [
  [FILL.pale, "no weight"],
  [FILL.grey, "not on the device"],
  [FILL.teal, "preloaded"],
  [FILL.blue, "on the device, waits"],
  [FILL.orange, "being loaded"],
  [FILL.red, "in use"],
];

/** Colours of the visible `items` (nodes, or groups as -1 - group). */
export function paint(
  by: ColourBy,
  items: number[],
  graph: GraphModel,
  groups: Groups,
  plan: PlanModel | undefined,
  step: number,
): Painting {
  const members = (item: number): number[] => (item >= 0 ? [item] : groups.all[-1 - item]!.nodes);
  if (by === "class") {
    return {
      fill: items.map((item) => classFill(members(item), graph)),
      legend: classLegend(graph),
    };
  }
  if (by === "weight") {
    const bytes = items.map((item) => sum(members(item), (node) => graph.weightBytes[node]!));
    return scaled(bytes, "no weight", formatBytes);
  }
  if (!plan) {
    return { fill: items.map(() => FILL.pale), legend: [[FILL.pale, "there is no plan yet"]] };
  }
  if (by === "residency") {
    const state = residency(graph, plan, step);
    const shown = items.map((item) => Math.max(...members(item).map((node) => state[node]!)));
    return { fill: shown.map((one) => HELD[one]![0]), legend: HELD };
  }
  const time = layerTimes(plan);
  const layersOf = (item: number): number[] => [
    ...new Set(members(item).flatMap((node) => graph.layers[node]!)),
  ];
  const ms = items.map((item) => sum(layersOf(item), (layer) => time[layer]!));
  const origin = plan.measuredMs.length ? "measured" : "predicted";
  return scaled(ms, "costs nothing", (value) => `${formatMs(value)} ${origin}`);
}

/** Milliseconds of each layer: measured where there was a run, else predicted. */
export function layerTimes(plan: PlanModel): ArrayLike<number> {
  if (plan.measuredMs.length) return plan.measuredMs;
  return plan.beginMs.map((begin, layer) => plan.endMs[layer]! - begin);
}

/** Of each node, into `HELD`: the most lively state of its weights while layer `step` runs. */
export function residency(graph: GraphModel, plan: PlanModel, step: number): Uint8Array {
  const layers = new Uint8Array(plan.layers.length);
  const loading = new Set<number>();
  plan.moveLayer.forEach((layer, i) => {
    if (layer === step) loading.add(plan.moveWeight[i]!);
  });
  plan.useLayer.forEach((layer, i) => {
    const weight = plan.useWeight[i]!;
    const alive = step >= plan.load[weight]! && step <= plan.last[weight]!;
    let state = plan.pinned[weight] ? 2 : alive ? 3 : 1;
    if (loading.has(weight)) state = 4;
    if (layer === step) state = 5;
    layers[layer] = Math.max(layers[layer]!, state);
  });
  return Uint8Array.from(graph.layers, (covering) =>
    Math.max(0, ...covering.map((layer) => layers[layer]!)),
  );
}

function classFill(nodes: number[], graph: GraphModel): string {
  const counts = new Float64Array(CLASSES.length);
  // A node with weights says more about its group than many that only reshape.
  for (const node of nodes) {
    const nothing = graph.opClass[node]! >= FREE_CLASS;
    counts[graph.opClass[node]!]! += nothing ? 1e-6 : 1 + graph.weightBytes[node]!;
  }
  return CLASS_FILL[counts.indexOf(Math.max(...counts))]!;
}

function classLegend(graph: GraphModel): [string, string][] {
  const present = new Set(graph.opClass);
  return CLASSES.map((name, i): [string, string] => [CLASS_FILL[i]!, name]).filter((_, i) =>
    present.has(i),
  );
}

/** Logarithmic heat over three decades below the largest value. */
function scaled(values: number[], none: string, words: (value: number) => string): Painting {
  const most = Math.max(...values, 0);
  const least = most / 1000;
  const share = (value: number): number =>
    most > 0 ? Math.log(value / least) / Math.log(1000) : 0;
  const marks = most > 0 ? [least, most / 30, most] : [];
  return {
    fill: values.map((value) => (value > 0 ? heat(share(value)) : FILL.pale)),
    legend: [
      [FILL.pale, none],
      ...marks.map((value): [string, string] => [heat(share(value)), words(value)]),
    ],
  };
}

function sum(items: number[], value: (item: number) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
