/** A canvas that keeps the size of its place and the colours of its page, drawn once a frame. */

import { readTheme, type Theme, watchTheme } from "./theme";

export class Surface {
  readonly context: CanvasRenderingContext2D;
  theme: Theme;
  width = 0; // CSS px
  height = 0;
  private frame = 0;
  private readonly stops: (() => void)[];

  /** `place` is the element whose inner size the canvas has; `draw` is called when it has one. */
  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly place: HTMLElement,
    private readonly draw: () => void,
  ) {
    this.context = canvas.getContext("2d")!;
    this.theme = readTheme(place);
    const resize = new ResizeObserver(() => this.resize());
    resize.observe(place);
    const unwatch = watchTheme(() => this.redraw());
    this.stops = [() => resize.disconnect(), unwatch];
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    for (const stop of this.stops) stop();
  }

  /** Draws in the next frame, however often it is asked for before. */
  redraw(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.now();
    });
  }

  /** Takes the size of its place, and draws at once. */
  resize(): void {
    this.width = this.place.clientWidth;
    this.height = this.place.clientHeight;
    if (this.width === 0 || this.height === 0) return; // in a tab that is not seen
    this.canvas.width = Math.round(this.width * devicePixelRatio);
    this.canvas.height = Math.round(this.height * devicePixelRatio);
    this.canvas.style.height = `${this.height}px`;
    this.now();
  }

  private now(): void {
    if (this.width === 0 || this.height === 0) return;
    this.theme = readTheme(this.place);
    const { context } = this;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = `12px ${this.theme.font}`;
    context.textBaseline = "middle";
    this.draw();
  }
}
