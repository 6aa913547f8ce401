/** The whole graph in a strip at the side; drag to move the window. Its axes scale on their own. */

import type { Camera } from "./camera";
import type { Painting } from "./colours";
import { h } from "./dom";
import type { Scene } from "./scene";
import type { Theme } from "./theme";

const WIDTH = 74; // px
const MARGIN = 5;

export class Minimap {
  readonly canvas = h("canvas", {
    class: "fml-minimap",
    "aria-hidden": "true", // the keyboard moves the window itself
    title: "The whole graph: drag to move",
  });
  private readonly picture = document.createElement("canvas");
  private scene: Scene | undefined;

  constructor(
    private readonly camera: Camera,
    private readonly moved: () => void,
  ) {
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.jump(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.jump(event);
    });
  }

  /** Renders the graph once; `draw` then only copies it. */
  render(scene: Scene, painting: Painting, theme: Theme): void {
    this.scene = scene;
    const pixels = devicePixelRatio;
    for (const canvas of [this.canvas, this.picture]) {
      canvas.width = WIDTH * pixels;
      canvas.height = Math.max(1, Math.round(this.camera.height * pixels));
    }
    const context = this.picture.getContext("2d")!;
    context.fillStyle = theme.panel;
    context.fillRect(0, 0, this.picture.width, this.picture.height);
    const [sx, sy] = this.scales();
    context.setTransform(pixels, 0, 0, pixels, 0, 0);
    for (let i = 0; i < scene.visible.items.length; i++) {
      const box = scene.box(i);
      context.fillStyle = painting.fill[i]!;
      context.fillRect(
        MARGIN + (box.x0 - scene.bounds.x0) * sx,
        MARGIN + (box.y0 - scene.bounds.y0) * sy,
        Math.max(1, (box.x1 - box.x0) * sx),
        Math.max(1, (box.y1 - box.y0) * sy),
      );
    }
  }

  draw(theme: Theme): void {
    if (!this.scene) return;
    const context = this.canvas.getContext("2d")!;
    const pixels = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.picture, 0, 0);
    const { bounds } = this.scene;
    const [sx, sy] = this.scales();
    const { x0, y0, x1, y1 } = this.camera.window;
    context.setTransform(pixels, 0, 0, pixels, 0, 0);
    context.strokeStyle = theme.accent;
    context.lineWidth = 1.5;
    const left = Math.max(1, MARGIN + (x0 - bounds.x0) * sx);
    const top = Math.max(1, MARGIN + (y0 - bounds.y0) * sy);
    const right = Math.min(WIDTH - 1, MARGIN + (x1 - bounds.x0) * sx);
    const bottom = Math.min(this.camera.height - 1, MARGIN + (y1 - bounds.y0) * sy);
    context.strokeRect(left, top, Math.max(3, right - left), Math.max(3, bottom - top));
  }

  private scales(): [number, number] {
    const { bounds } = this.scene!;
    return [
      (WIDTH - 2 * MARGIN) / (bounds.x1 - bounds.x0),
      (this.camera.height - 2 * MARGIN) / (bounds.y1 - bounds.y0),
    ];
  }

  private jump(event: PointerEvent): void {
    if (!this.scene) return;
    const { bounds } = this.scene;
    const [sx, sy] = this.scales();
    this.camera.centre(
      bounds.x0 + (event.offsetX - MARGIN) / sx,
      bounds.y0 + (event.offsetY - MARGIN) / sy,
    );
    this.moved();
  }
}
