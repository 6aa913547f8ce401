/** Plans along the scale of budgets, and what lies between two of them; mirrors views/sweep.py. */

import { decode } from "./wire";

export interface Sweep {
  least: number; // bytes
  full: number;
  /** Whether `timeMs` is that of later runs. */
  warm: boolean;
  marks: [number, string, string][]; // percent, label, words
  percent: Float64Array; // of each place, rising
  timeMs: Float64Array;
  coldMs: Float64Array;
  overTime: Float32Array; // bytes held, one place after another
  overLayers: Float32Array;
}

/** What a budget between the places would hold, about. */
export interface Preview {
  budgetBytes: number;
  coldMs: number;
  /** Bytes, at equal steps of the run. */
  overTime: Float64Array;
  overLayers: Float64Array;
}

export function decodeSweep(bytes: DataView): Sweep {
  const { header, arrays } = decode<Partial<Sweep>>(bytes, "flashmem-lab/sweep-view/1");
  return { ...header, ...arrays } as Sweep;
}

/** The budget at a place of the slider; as `Scale.bytes` of views/planning.py. */
export function budgetAt(least: number, full: number, percent: number): number {
  return least + Math.round(((full - least) * percent) / 100);
}

export function previewAt(sweep: Sweep, percent: number): Preview {
  const count = sweep.percent.length;
  let at = 1;
  while (at < count - 1 && sweep.percent[at]! < percent) at += 1;
  const [low, high] = [sweep.percent[at - 1]!, sweep.percent[at]!];
  const share = Math.min(1, Math.max(0, (percent - low) / (high - low)));
  const mix = (one: number, other: number): number => one + share * (other - one);
  const bins = sweep.overTime.length / count;
  const between = (curves: Float32Array): Float64Array =>
    Float64Array.from({ length: bins }, (_, i) =>
      mix(curves[(at - 1) * bins + i]!, curves[at * bins + i]!),
    );
  return {
    budgetBytes: budgetAt(sweep.least, sweep.full, percent),
    coldMs: mix(sweep.coldMs[at - 1]!, sweep.coldMs[at]!),
    overTime: between(sweep.overTime),
    overLayers: between(sweep.overLayers),
  };
}
