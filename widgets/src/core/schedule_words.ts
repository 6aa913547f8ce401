/** What the schedule says of a weight and of a layer. */

import type { PlanModel } from "./model";
import { heldAt } from "./schedule_chart";
import { formatBytes, formatMs } from "./units";

const ASKED = ["", "asked: preload", "asked: never preload", "asked: "]; // by FORCED

export function life(plan: PlanModel, weight: number): string {
  const [load, first, last] = [plan.load[weight]!, plan.first[weight]!, plan.last[weight]!];
  const until = last > first ? ` to ${last}` : "";
  const words = plan.pinned[weight]
    ? `preloaded, used at layer ${first}`
    : `loads from layer ${load}, used at ${first}${until}, then freed`;
  const pieces = [plan.weights[weight]!, formatBytes(plan.bytes[weight]!), words];
  const read = plan.readMs[weight]!;
  if (read >= 0) pieces.push(`read ${formatMs(read)} to ${formatMs(plan.hereMs[weight]!)}`);
  let asked = ASKED[plan.forced[weight]!]!;
  if (plan.windowFirst[weight]! >= 0) {
    asked += windowWords(plan.windowFirst[weight]!, plan.windowLast[weight]!);
  }
  if (asked) pieces.push(asked);
  return pieces.join(" · ");
}

/** Where a load may begin. */
export function windowWords(first: number, last: number): string {
  return first === last ? `load from layer ${first}` : `load from a layer of ${first} to ${last}`;
}

export function layerWords(plan: PlanModel, layer: number): string {
  return (
    `layer ${layer}: ${plan.layers[layer]} · ${formatBytes(heldAt(plan, layer))} held · ` +
    `${formatMs(plan.endMs[layer]! - plan.beginMs[layer]!)} predicted`
  );
}
