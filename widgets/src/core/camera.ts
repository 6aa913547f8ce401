/** Where the window on a plane is: screen = plane * scale + (x, y), CSS pixels. */

import type { Box } from "./scene";

const SCALE = { least: 0.01, most: 3 };

export class Camera {
  scale = 1;
  x = 0;
  y = 0;
  width = 1;
  height = 1;

  get window(): Box {
    return {
      x0: -this.x / this.scale,
      y0: -this.y / this.scale,
      x1: (this.width - this.x) / this.scale,
      y1: (this.height - this.y) / this.scale,
    };
  }

  toPlane(x: number, y: number): [number, number] {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  pan(dx: number, dy: number): void {
    this.x += dx;
    this.y += dy;
  }

  /** Zooms by `factor`; the point (x, y) of the screen stays where it is. */
  zoom(factor: number, x: number, y: number): void {
    const scale = Math.min(SCALE.most, Math.max(SCALE.least, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
  }

  /** The whole of `box`, no larger than `most`. */
  fit(box: Box, most = 1): void {
    const scale = Math.min(
      most,
      this.width / (box.x1 - box.x0 + 60),
      this.height / (box.y1 - box.y0 + 60),
    );
    this.scale = Math.max(SCALE.least, scale);
    this.centre((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2);
  }

  /** As wide as the window, from the top: where one begins to read a tall graph. */
  top(box: Box): void {
    this.scale = Math.min(1, Math.max(0.35, this.width / (box.x1 - box.x0 + 80)));
    this.x = this.width / 2 - ((box.x0 + box.x1) / 2) * this.scale;
    this.y = 24 - box.y0 * this.scale;
  }

  centre(x: number, y: number): void {
    this.x = this.width / 2 - x * this.scale;
    this.y = this.height / 2 - y * this.scale;
  }

  /** Pans as little as is needed to see `box`. */
  reveal(box: Box): void {
    const margin = 24;
    const [x0, x1] = [box.x0 * this.scale + this.x, box.x1 * this.scale + this.x];
    const [y0, y1] = [box.y0 * this.scale + this.y, box.y1 * this.scale + this.y];
    if (x0 < margin) this.x += margin - x0;
    else if (x1 > this.width - margin) this.x -= x1 - this.width + margin;
    if (y0 < margin) this.y += margin - y0;
    else if (y1 > this.height - margin) this.y -= y1 - this.height + margin;
  }
}
