/** From item to item of a laid out graph, as arrow keys go. */

import type { Scene } from "./scene";

export type Way = "above" | "below" | "left" | "right";

/** The nearest item that way: along an edge up or down, in the same rank sideways; or -1. */
export function neighbour(scene: Scene, from: number, way: Way): number {
  const { edges, items } = scene.visible;
  const { x, rank } = scene.place;
  const offered: number[] = [];
  if (way === "above" || way === "below") {
    const [here, there] = way === "below" ? [0, 1] : [1, 0];
    for (let e = 0; e < edges.length; e += 2) {
      if (edges[e + here] === from) offered.push(edges[e + there]!);
    }
  } else {
    const side = way === "right" ? 1 : -1;
    items.forEach((_, item) => {
      if (rank[item] === rank[from] && side * (x[item]! - x[from]!) > 0) offered.push(item);
    });
  }
  const far = (item: number): number => Math.abs(x[item]! - x[from]!);
  return offered.reduce((best, item) => (best < 0 || far(item) < far(best) ? item : best), -1);
}
