/** Nodes of weights and layers, and the other way round. */

import { type Brush, NO_BRUSH } from "./brush";
import type { GraphModel, PlanModel } from "./model";

/** The nodes that use a weight; without one, those that run in the layers of a brush. */
export function nodesOf(
  brush: Brush,
  graph: GraphModel | undefined,
  plan: PlanModel | undefined,
): number[] {
  if (!graph || !plan || (brush.first < 0 && !brush.weight)) return [];
  const layers = new Set<number>();
  const weight = plan.weights.indexOf(brush.weight);
  if (weight < 0) {
    for (let layer = brush.first; layer <= brush.last; layer++) layers.add(layer);
  }
  plan.useLayer.forEach((layer, i) => {
    if (plan.useWeight[i] === weight) layers.add(layer);
  });
  const found: number[] = [];
  graph.layers.forEach((covering, node) => {
    if (covering.some((layer) => layers.has(layer))) found.push(node);
  });
  return found;
}

/** The layers in which nodes run, and their weight where they have a single one. */
export function spanOf(nodes: number[], graph: GraphModel, plan: PlanModel | undefined): Brush {
  const layers = new Set(nodes.flatMap((node) => graph.layers[node]!));
  if (layers.size === 0 || !plan) return NO_BRUSH;
  const weights = new Set<number>();
  plan.useLayer.forEach((layer, i) => {
    if (layers.has(layer)) weights.add(plan.useWeight[i]!);
  });
  const [only] = weights;
  return {
    weight: weights.size === 1 ? plan.weights[only!]! : "",
    first: Math.min(...layers),
    last: Math.max(...layers),
  };
}
