/** The window on a laid out graph: its canvas, camera and minimap. */

import { Camera } from "./camera";
import type { Painting } from "./colours";
import { h } from "./dom";
import { Minimap } from "./minimap";
import { drawScene, type Look } from "./painter";
import type { Scene } from "./scene";
import { readTheme, type Theme, watchTheme } from "./theme";

/** A node, and where on the screen it is to stay. */
export interface Spot {
  node: number;
  x: number;
  y: number;
}

export class Plane {
  readonly canvas = h("canvas", {
    class: "fml-canvas",
    tabindex: "0",
    role: "application",
    "aria-label": "Graph; arrow keys move from node to node along the edges",
  });
  readonly camera = new Camera();
  /** What the last drawing took, ms. */
  took = 0;
  scene: Scene | undefined;
  readonly context = this.canvas.getContext("2d", { alpha: false })!;
  private readonly minimap = new Minimap(this.camera, () => this.redraw());
  readonly element = h("div", { class: "fml-plane" }, this.canvas, this.minimap.canvas);
  private painting: Painting = { fill: [], legend: [] };
  private theme: Theme;
  private fresh = true; // nothing was drawn in a window with a size yet
  private frame = 0;
  private readonly stops: (() => void)[];

  /** `look` says what is marked in the scene; asked for at each drawing. */
  constructor(private readonly look: (scene: Scene) => Look) {
    this.theme = readTheme(this.element);
    const resize = new ResizeObserver(() => this.resize());
    resize.observe(this.canvas);
    const unwatch = watchTheme(() => this.resize());
    this.stops = [() => resize.disconnect(), unwatch];
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    for (const stop of this.stops) stop();
  }

  /** Another scene: seen from its top, or with a node kept in its place. */
  show(scene: Scene, keep?: Spot): void {
    const { camera } = this;
    this.scene = scene;
    if (keep) {
      const item = scene.visible.itemOf[keep.node]!;
      camera.x = keep.x - scene.place.x[item]! * camera.scale;
      camera.y = keep.y - scene.place.y[item]! * camera.scale;
      return;
    }
    this.fresh = camera.width <= 1;
    if (!this.fresh) camera.top(scene.bounds);
  }

  /** The scene in other colours. */
  paint(painting: Painting): void {
    this.painting = painting;
    if (this.scene && this.camera.width > 1) {
      this.minimap.render(this.scene, painting, this.theme);
    }
    this.redraw();
  }

  redraw(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw(): void {
    const { scene, camera, theme, context } = this;
    if (!scene || camera.width <= 1) {
      context.fillStyle = theme.ground; // an opaque canvas is black otherwise
      context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    const began = performance.now();
    const look = this.look(scene);
    drawScene(context, scene, camera, this.painting, theme, look, devicePixelRatio);
    this.minimap.draw(theme);
    this.took = performance.now() - began;
  }

  /** The item under the pointer, or -1. */
  itemAt(event: MouseEvent): number {
    return this.scene?.itemAt(...this.camera.toPlane(event.offsetX, event.offsetY)) ?? -1;
  }

  /** Pans as little as is needed to see an item. */
  reveal(item: number): void {
    if (this.scene) this.camera.reveal(this.scene.box(item));
    this.redraw();
  }

  /** Brings an item into the middle, near enough to be read. */
  centre(item: number): void {
    const { x, y } = this.scene!.place;
    this.camera.scale = Math.max(this.camera.scale, 0.7);
    this.camera.centre(x[item]!, y[item]!);
    this.redraw();
  }

  /** Where on the screen an item is, in the name of a `node` that it shows. */
  spot(item: number, node: number): Spot {
    const { scale, x, y } = this.camera;
    const { place } = this.scene!;
    return { node, x: place.x[item]! * scale + x, y: place.y[item]! * scale + y };
  }

  zoom(factor: number): void {
    this.camera.zoom(factor, this.camera.width / 2, this.camera.height / 2);
    this.redraw();
  }

  pan(dx: number, dy: number): void {
    this.camera.pan(dx, dy);
    this.redraw();
  }

  /** Shows the whole graph. */
  fit(): void {
    if (this.scene) this.camera.fit(this.scene.bounds);
    this.redraw();
  }

  private wheel(event: WheelEvent): void {
    // A page that is scrolled over the graph goes on scrolling until the graph was clicked.
    if (!event.ctrlKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    if (event.shiftKey) this.camera.pan(-event.deltaY, 0);
    else this.camera.zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    this.redraw();
  }

  private resize(): void {
    const { canvas, camera } = this;
    const { clientWidth, clientHeight } = canvas;
    if (clientWidth === 0 || clientHeight === 0) return; // in a tab that is not seen
    canvas.width = Math.round(clientWidth * devicePixelRatio);
    canvas.height = Math.round(clientHeight * devicePixelRatio);
    [camera.width, camera.height] = [clientWidth, clientHeight];
    if (this.fresh && this.scene) {
      this.fresh = false;
      camera.top(this.scene.bounds);
    }
    this.theme = readTheme(this.element);
    this.paint(this.painting);
    this.draw();
  }
}
