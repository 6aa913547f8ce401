/** The values that the views draw; mirrors views/graph_data.py and views/plan_data.py. */

import { decode } from "./wire";

/** Operator classes by number. The last two cost nothing, or are not known without a device. */
export const CLASSES = [
  "elemental",
  "reusable",
  "hierarchical",
  "on the host",
  "costs nothing",
  "not planned for a device yet",
];
/** From here on, classes that say nothing of a group. */
export const FREE_CLASS = 4;

export interface GraphModel {
  name: string;
  names: string[]; // of nodes, in execution order
  ops: string[]; // distinct operator types
  scopes: string[]; // distinct scopes, such as "encoder.layer.0.attention"
  op: Uint32Array; // of each node, into ops
  scope: Uint32Array; // of each node, into scopes
  layers: number[][]; // of each node: those that cover it; several where it was tiled
  opClass: Uint8Array; // of each node, into CLASSES
  weightBytes: Float64Array; // of each node, bytes in the file
  edges: Uint32Array; // pairs: from, to
}

export interface PlanModel {
  layers: string[];
  weights: string[];
  device: string;
  strategy: string;
  budgetBytes: number;
  peakBytes: number;
  coldMs: number;
  warmMs: number;
  beginMs: Float64Array; // of each layer, predicted
  endMs: Float64Array;
  measuredMs: Float32Array; // of each layer; empty before a run
  held: Float64Array; // of each layer: staging, buffers, textures, bytes
  bytes: Float64Array; // of each weight
  load: Int32Array; // layer at which each weight's object is made
  first: Int32Array; // layers that use it first and last
  last: Int32Array;
  pinned: Uint8Array; // 1 for a preloaded weight
  forced: Uint8Array; // what the user asked: FORCED
  windowFirst: Int32Array; // layers at which its load may begin by the user's wish; -1 for none
  windowLast: Int32Array;
  readMs: Float32Array; // when each weight begins to be read, and is there; -1 where it does not move
  hereMs: Float32Array;
  moveWeight: Uint32Array;
  moveLayer: Uint32Array;
  moveBytes: Float64Array;
  useLayer: Uint32Array; // pairs: this layer ...
  useWeight: Uint32Array; // ... needs this weight
}

export function decodeGraph(bytes: DataView): GraphModel {
  type Header = Pick<GraphModel, "name" | "names" | "ops" | "scopes">;
  const { header, arrays } = decode<Header>(bytes, "flashmem-lab/graph-view/1");
  const layers: number[][] = header.names.map(() => []);
  const covered = arrays.coverLayer!;
  arrays.coverNode!.forEach((node, i) => {
    layers[node]!.push(covered[i]!);
  });
  return { ...header, ...(arrays as unknown as Omit<GraphModel, keyof Header | "layers">), layers };
}

export function decodePlan(bytes: DataView): PlanModel {
  const { header, arrays } = decode<Partial<PlanModel>>(bytes, "flashmem-lab/plan-view/1");
  return { ...header, ...arrays } as PlanModel;
}

/** What the panel shows of a node: titled tables of words. */
export interface Section {
  title: string;
  rows: [string, string][];
}
