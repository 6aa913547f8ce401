/** Draws the part of a scene that is in the window; what is too small to read is left out. */

import type { Camera } from "./camera";
import type { Painting } from "./colours";
import type { Scene } from "./scene";
import type { Theme } from "./theme";
import { formatBytes, shorten } from "./units";

const READABLE = 0.42; // scale from which names are drawn
const CURVED = 0.22; // scale from which edges are curves, with arrow heads
const CHARACTER = 6.4; // px, of 11.5 px text, about

export interface Look {
  selected: number; // item, or -1
  found: ReadonlySet<number>; // items that the search found
  searching: boolean;
  brushed: ReadonlySet<number>; // items of what is chosen or pointed at elsewhere
}

export function drawScene(
  context: CanvasRenderingContext2D,
  scene: Scene,
  camera: Camera,
  painting: Painting,
  theme: Theme,
  look: Look,
  pixels: number,
): void {
  const { scale } = camera;
  context.setTransform(pixels, 0, 0, pixels, 0, 0);
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, camera.width, camera.height);
  context.setTransform(pixels * scale, 0, 0, pixels * scale, pixels * camera.x, pixels * camera.y);
  drawFrames(context, scene, camera, theme);
  drawEdges(context, scene, camera, theme, look.selected);
  const items = scene.itemsIn(camera.window);
  const byFill = new Map<string, number[]>();
  for (const item of items) {
    const fill = painting.fill[item]!;
    const list = byFill.get(fill);
    if (list) list.push(item);
    else byFill.set(fill, [item]);
  }
  context.globalAlpha = look.searching ? 0.25 : 1;
  for (const [fill, list] of byFill) {
    context.fillStyle = fill;
    fillItems(
      context,
      scene,
      look.searching ? list.filter((i) => !look.found.has(i)) : list,
      scale,
    );
  }
  context.globalAlpha = 1;
  if (look.searching) {
    for (const [fill, list] of byFill) {
      context.fillStyle = fill;
      fillItems(
        context,
        scene,
        list.filter((i) => look.found.has(i)),
        scale,
      );
    }
  }
  if (scale >= READABLE) drawNames(context, scene, items, theme);
  drawRings(context, scene, items, theme, look, scale);
}

function fillItems(
  context: CanvasRenderingContext2D,
  scene: Scene,
  items: number[],
  scale: number,
): void {
  context.beginPath();
  for (const item of items) {
    const { x0, y0, x1, y1 } = scene.box(item);
    const isGroup = scene.visible.items[item]! < 0;
    if (scale < READABLE) context.rect(x0, y0, x1 - x0, y1 - y0);
    else context.roundRect(x0, y0, x1 - x0, y1 - y0, isGroup ? 3 : 7);
    // The second sheet behind a closed group.
    if (isGroup && scale >= CURVED) context.rect(x0 + 8, y1 + 2, x1 - x0 - 16, 3);
  }
  context.fill();
}

function drawFrames(
  context: CanvasRenderingContext2D,
  scene: Scene,
  camera: Camera,
  theme: Theme,
): void {
  const { window } = camera;
  for (const frame of scene.frames) {
    if (frame.x1 < window.x0 || frame.x0 > window.x1) continue;
    if (frame.y1 < window.y0 || frame.y0 > window.y1) continue;
    context.beginPath();
    context.roundRect(frame.x0, frame.y0, frame.x1 - frame.x0, frame.y1 - frame.y0, 8);
    context.globalAlpha = 0.35;
    context.fillStyle = theme.panel;
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = theme.line;
    context.lineWidth = Math.max(0.8, 0.8 / camera.scale);
    context.stroke();
    if (camera.scale < READABLE || !frame.title) continue;
    context.font = `11px ${theme.font}`;
    context.fillStyle = theme.soft;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const fits = Math.floor((frame.x1 - frame.x0 - 30) / CHARACTER);
    context.fillText(`▾ ${shorten(frame.title, fits)}`, frame.x0 + 9, frame.y0 + 11);
  }
}

function drawEdges(
  context: CanvasRenderingContext2D,
  scene: Scene,
  camera: Camera,
  theme: Theme,
  selected: number,
): void {
  const { scale } = camera;
  const { edges } = scene.visible;
  const found = scene.edgesIn(camera.window);
  const trace = (e: number): void => {
    const [from, to] = [edges[2 * e]!, edges[2 * e + 1]!];
    const [a, b] = [scene.box(from), scene.box(to)];
    let x = (a.x0 + a.x1) / 2;
    let y = a.y1;
    const end = { x: (b.x0 + b.x1) / 2, y: b.y0 };
    context.moveTo(x, y);
    const bends = scene.place.bends[e]!;
    for (let i = 0; i <= bends.length; i += 2) {
      const [nextX, nextY] = i < bends.length ? [bends[i]!, bends[i + 1]!] : [end.x, end.y];
      if (scale < CURVED || Math.abs(nextX - x) < 1) context.lineTo(nextX, nextY);
      else {
        const half = (y + nextY) / 2;
        context.bezierCurveTo(x, half, nextX, half, nextX, nextY);
      }
      [x, y] = [nextX, nextY];
    }
    if (scale >= READABLE) {
      context.moveTo(x - 3.5, y - 6);
      context.lineTo(x, y);
      context.lineTo(x + 3.5, y - 6);
    }
  };
  context.globalAlpha = 0.7;
  context.strokeStyle = theme.soft;
  context.lineWidth = Math.max(1.2, 0.8 / scale);
  context.beginPath();
  for (const e of found) trace(e);
  context.stroke();
  context.globalAlpha = 1;
  if (selected < 0) return;
  context.strokeStyle = theme.accent;
  context.lineWidth = Math.max(2, 1.4 / scale);
  context.beginPath();
  for (const e of found) {
    if (edges[2 * e] === selected || edges[2 * e + 1] === selected) trace(e);
  }
  context.stroke();
}

function drawNames(
  context: CanvasRenderingContext2D,
  scene: Scene,
  items: number[],
  theme: Theme,
): void {
  context.fillStyle = "#ffffff";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const item of items) {
    const [x, y] = [scene.place.x[item]!, scene.place.y[item]!];
    const fits = Math.floor((scene.width[item]! - 14) / CHARACTER);
    const [first, second] = words(scene, item);
    context.font = `600 12px ${theme.font}`;
    context.fillText(shorten(first, fits), x, y - 7.5);
    context.font = `11px ${theme.font}`;
    context.fillText(shorten(second, fits), x, y + 8);
  }
}

/** The two lines of an item. */
export function words(scene: Scene, item: number): [string, string] {
  const what = scene.visible.items[item]!;
  const { graph } = scene;
  if (what >= 0) return [graph.ops[graph.op[what]!]!, graph.names[what]!];
  const group = scene.groups.all[-1 - what]!;
  const bytes = group.nodes.reduce((sum, node) => sum + graph.weightBytes[node]!, 0);
  const again = group.repeats > 1 ? `, 1 of ${group.repeats}` : "";
  return [`▸ ${group.label}`, `${group.nodes.length} nodes, ${formatBytes(bytes)}${again}`];
}

function drawRings(
  context: CanvasRenderingContext2D,
  scene: Scene,
  items: number[],
  theme: Theme,
  look: Look,
  scale: number,
): void {
  const ring = (item: number, grow: number): void => {
    const { x0, y0, x1, y1 } = scene.box(item);
    context.roundRect(x0 - grow, y0 - grow, x1 - x0 + 2 * grow, y1 - y0 + 2 * grow, 8);
  };
  if (look.searching) {
    context.strokeStyle = theme.ink;
    context.lineWidth = Math.max(1.5, 1.2 / scale);
    context.beginPath();
    for (const item of items) if (look.found.has(item)) ring(item, 2);
    context.stroke();
  }
  context.strokeStyle = theme.accent;
  context.lineWidth = Math.max(2, 1.6 / scale);
  context.setLineDash([6, 3]);
  context.beginPath();
  for (const item of items) if (look.brushed.has(item)) ring(item, 3);
  context.stroke();
  context.setLineDash([]);
  if (look.selected >= 0) {
    context.strokeStyle = theme.accent;
    context.lineWidth = Math.max(3, 2 / scale);
    context.beginPath();
    ring(look.selected, 4);
    context.stroke();
  }
}
