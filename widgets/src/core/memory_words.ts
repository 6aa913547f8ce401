/** What the memory view says of a moment, of an object, of a preview. */

import type { AddressModel, MemoryModel } from "./memory_data";
import type { PlanModel } from "./model";
import { layerSteps, levelAt, POOLS, totalAt } from "./stack";
import type { Preview } from "./sweep";
import { formatBytes, formatMs, shorten } from "./units";

const NAMED = 4; // objects that are named, the largest ones

export function previewWords(preview: Preview): string {
  return (
    `about ${formatMs(preview.coldMs)} within ${formatBytes(preview.budgetBytes)}, ` +
    "drawn between plans made before; the kernel is asked"
  );
}

/** What is held while a layer runs and which weights that is; `ms` where time is shown. */
export function moment(
  plan: PlanModel,
  memory: MemoryModel,
  layer: number,
  ms: number | undefined,
): string[] {
  const predicted = layerSteps(plan.held);
  const when = ms === undefined ? "" : `${formatMs(Math.max(0, ms))} · `;
  const lines = [`${when}layer ${layer}: ${shorten(plan.layers[layer] ?? "", 60)}`];
  const pools = POOLS.map(
    ([name], pool) => `${name} ${formatBytes(predicted.pools[pool]![layer]!)}`,
  ).filter((_, pool) => predicted.pools[pool]![layer]! > 0);
  lines.push(`predicted ${formatBytes(totalAt(predicted, layer))}: ${pools.reverse().join(", ")}`);
  const measured = ms === undefined ? memory.measuredLayers : memory.measured;
  const at = levelAt(measured, ms ?? layer);
  if (at >= 0) lines.push(`measured ${formatBytes(totalAt(measured, at))}`);
  lines.push(...resident(plan, layer));
  return lines;
}

/** The weights on the device while a layer runs: those that move first, then the largest. */
function resident(plan: PlanModel, layer: number): string[] {
  const kept: number[] = [];
  const streamed: number[] = [];
  plan.weights.forEach((_, weight) => {
    if (plan.pinned[weight]) kept.push(weight);
    else if (plan.load[weight]! <= layer && layer <= plan.last[weight]!) streamed.push(weight);
  });
  const lines: string[] = [];
  for (const [what, weights] of [
    ["streamed", streamed],
    ["preloaded", kept],
  ] as const) {
    if (weights.length === 0) continue;
    weights.sort((a, b) => plan.bytes[b]! - plan.bytes[a]!);
    const bytes = weights.reduce((sum, weight) => sum + plan.bytes[weight]!, 0);
    lines.push(`${weights.length} ${what} weights, ${formatBytes(bytes)}:`);
    for (const weight of weights.slice(0, NAMED)) {
      const used = plan.first[weight] === layer ? ", in use" : "";
      const name = shorten(plan.weights[weight]!, 48);
      lines.push(`  ${name} ${formatBytes(plan.bytes[weight]!)}${used}`);
    }
    if (weights.length > NAMED) lines.push(`  and ${weights.length - NAMED} more`);
  }
  return lines;
}

export function objectWords(map: AddressModel, at: number, plan: PlanModel): string[] {
  const [first, last] = [map.first[at]!, map.last[at]!];
  const from = formatBytes(map.address[at]!);
  return [
    shorten(map.names[at]!, 60),
    `${POOLS[map.pool[at]!]![0]}, ${formatBytes(map.size[at]!)} from address ${from}`,
    `layers ${first} to ${last} of ${plan.layers.length}`,
  ];
}
