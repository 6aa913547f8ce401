/** A window on a line from 0 to an end, moved and zoomed; and marks on a scale. */

import type { Theme } from "./theme";

const UNDER = 13; // px from the floor to the middle of the words
const BESIDE = 12; // px right of the last value that words may take

export class Axis {
  from = 0;
  to = 1;
  private end = 1;

  /** `left` px before the first value, `width` px for all that is in the window. */
  constructor(
    readonly left: number,
    public width = 1,
  ) {}

  /** Shows everything from 0 to `end`. */
  show(end: number): void {
    this.end = Math.max(end, 1e-6);
    this.from = 0;
    this.to = this.end;
  }

  /** Another end; what was seen whole is seen whole again, and a part stays where it is. */
  stretch(end: number): void {
    const whole = this.from === 0 && this.to === this.end;
    if (whole) {
      this.show(end);
      return;
    }
    this.end = Math.max(end, 1e-6);
    this.shift(0);
  }

  valueAt(x: number): number {
    return this.from + ((x - this.left) / this.width) * (this.to - this.from);
  }

  x(value: number): number {
    return this.left + ((value - this.from) / (this.to - this.from)) * this.width;
  }

  /** Zooms out by `factor`; the value `around` stays where it is. */
  zoom(factor: number, around: number): void {
    const span = Math.min(this.end, Math.max(this.end / 1e5, (this.to - this.from) * factor));
    const share = (around - this.from) / (this.to - this.from);
    this.from = around - share * span;
    this.to = this.from + span;
    this.shift(0);
  }

  shift(by: number): void {
    const span = Math.min(this.end, this.to - this.from);
    this.from = Math.min(Math.max(0, this.from + by), this.end - span);
    this.to = this.from + span;
  }

  /** Everything again. */
  all(): void {
    this.show(this.end);
  }

  /** What keys do to a window: arrows move it, + and − zoom, 0 shows all. */
  key(name: string): (() => void) | undefined {
    const step = (this.to - this.from) / 10;
    const middle = (this.from + this.to) / 2;
    const acts: Record<string, () => void> = {
      ArrowLeft: () => this.shift(-step),
      ArrowRight: () => this.shift(step),
      "+": () => this.zoom(0.7, middle),
      "=": () => this.zoom(0.7, middle),
      "-": () => this.zoom(1.4, middle),
      "0": () => this.all(),
    };
    return acts[name];
  }

  /** Round values in the window, about `count` of them. */
  marks(count: number): number[] {
    const step = niceStep((this.to - this.from) / count);
    const found: number[] = [];
    for (let at = Math.ceil(this.from / step); at * step <= this.to; at++) found.push(at * step);
    return found;
  }
}

/** 1, 2 or 5 times a power of ten, at least `rough`. */
export function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-9)));
  const factor = [1, 2, 5, 10].find((one) => one * power >= rough) ?? 10;
  return factor * power;
}

/** Upright lines at round values from `top` to `floor`, with words below. */
export function drawMarks(
  context: CanvasRenderingContext2D,
  axis: Axis,
  theme: Theme,
  top: number,
  floor: number,
  words: (value: number) => string,
): void {
  context.textAlign = "center";
  context.lineWidth = 1;
  context.strokeStyle = theme.line;
  context.fillStyle = theme.soft;
  for (const at of axis.marks(8)) {
    const x = Math.round(axis.x(at)) + 0.5;
    context.globalAlpha = 0.5;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, floor);
    context.stroke();
    context.globalAlpha = 1;
    const text = at === 0 ? "0" : words(at);
    const right = axis.left + axis.width + BESIDE - context.measureText(text).width / 2;
    context.fillText(text, Math.min(x, right), floor + UNDER);
  }
}
