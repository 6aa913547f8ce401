/** Objects as rectangles over layers and addresses. */

import type { Brush } from "./brush";
import type { AddressModel } from "./memory_data";
import { type Plot, POOLS, yAt } from "./stack";
import { shorten } from "./units";

const NAMED = { width: 70, height: 15 }; // px, of a rectangle that has room for its name
const CHARACTER = 6.2; // px

export function drawAddresses(plot: Plot, map: AddressModel, chosen: Brush, hovered: Brush): void {
  const { context, axis, theme } = plot;
  context.textAlign = "left";
  map.names.forEach((name, i) => {
    const [x0, x1] = [axis.x(map.first[i]!), axis.x(map.last[i]! + 1)];
    if (x1 < axis.left || x0 > axis.left + axis.width) return;
    const y0 = yAt(plot, map.address[i]! + map.size[i]!);
    const y1 = yAt(plot, map.address[i]!);
    const pointed = name === chosen.weight || name === hovered.weight;
    context.globalAlpha = pointed ? 1 : 0.72;
    context.fillStyle = POOLS[map.pool[i]!]![1];
    context.fillRect(x0, y0, Math.max(1, x1 - x0), Math.max(0.5, y1 - y0));
    context.globalAlpha = 1;
    if (y1 - y0 > 2.5 || pointed) {
      context.strokeStyle = pointed ? theme.ink : theme.ground;
      context.lineWidth = pointed ? 2 : 0.7;
      context.strokeRect(x0, y0, Math.max(1, x1 - x0), y1 - y0);
    }
    const left = Math.max(x0, axis.left);
    if (x1 - left < NAMED.width || y1 - y0 < NAMED.height) return;
    context.fillStyle = "#10151b";
    context.fillText(
      shorten(name, Math.floor((x1 - left - 8) / CHARACTER)),
      left + 4,
      (y0 + y1) / 2,
    );
  });
}

/** The object at a layer and an address, or -1. */
export function objectAt(map: AddressModel, layer: number, address: number): number {
  for (let i = 0; i < map.names.length; i++) {
    if (layer < map.first[i]! || layer >= map.last[i]! + 1) continue;
    if (address >= map.address[i]! && address < map.address[i]! + map.size[i]!) return i;
  }
  return -1;
}
