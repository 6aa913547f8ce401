/** What the memory view draws; mirrors views/memory_data.py and views/address_data.py. */

import { layerSteps, NOTHING, type Steps, steps } from "./stack";
import { decode } from "./wire";

export interface MemoryModel {
  budgetBytes: number;
  predicted: Steps; // over ms
  measured: Steps; // over ms; empty before a run
  measuredLayers: Steps; // over layers
  measuredEnd: Float64Array; // of each layer, ms; empty before a run
}

/** Rectangles over layers and addresses. */
export interface AddressModel {
  topBytes: number;
  names: string[];
  pool: Uint8Array; // of each object, into POOLS
  first: Int32Array; // layers during which it lies there
  last: Int32Array;
  address: Float64Array; // bytes
  size: Float64Array;
}

export function decodeMemory(bytes: DataView): MemoryModel {
  type Header = { budgetBytes: number; predictedEndMs: number; measuredEndMs: number };
  const { header, arrays } = decode<Header>(bytes, "flashmem-lab/memory-view/1");
  const floats = arrays as Record<string, Float64Array>;
  const { predictedMs, predictedHeld, measuredMs, measuredHeld, measuredLayers } = floats;
  return {
    budgetBytes: header.budgetBytes,
    predicted: steps(predictedMs!, header.predictedEndMs, predictedHeld!),
    measured: measuredMs!.length
      ? steps(measuredMs!, header.measuredEndMs, measuredHeld!)
      : NOTHING,
    measuredLayers: measuredLayers!.length ? layerSteps(measuredLayers!) : NOTHING,
    measuredEnd: floats.measuredEnd!,
  };
}

export function decodeAddresses(bytes: DataView): AddressModel {
  const { header, arrays } = decode<Partial<AddressModel>>(bytes, "flashmem-lab/address-view/1");
  return { ...header, ...arrays } as AddressModel;
}
