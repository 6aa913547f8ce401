/**
 * Layered layout: ranks by longest path, order by barycentres, places by least squares.
 *
 * Each rank's places are the isotonic regression (pool adjacent violators) of what its neighbours
 * ask for: the least displacement that keeps order and distance, in linear time. An edge over a few
 * ranks gets a dummy in each, so that it is drawn around nodes; longer ones are drawn straight.
 */

export interface LayoutInput {
  count: number;
  /** Pairs: from, to. An item never depends on a later one, save through a collapsed group. */
  edges: Uint32Array;
  width: Float64Array;
  height: Float64Array;
}

export interface Layout {
  /** Centres. */
  x: Float64Array;
  y: Float64Array;
  rank: Int32Array;
  ranks: number;
  /** Dummies of each edge, x and y in turn, from its start to its end. */
  bends: Float64Array[];
}

const GAP_X = 26;
const GAP_Y = 34;
const DUMMY = 14; // room that an edge takes between nodes
const LONGEST = 12; // ranks; a longer edge gets no dummies
const SPINE = 40; // ranks to each side over which drift is averaged
const ORDER_SWEEPS = 6;
const PLACE_SWEEPS = 8;

export function layout(input: LayoutInput): Layout {
  const { count, edges } = input;
  const rank = ranks(count, edges);
  const graph = new Proper(input, rank);
  graph.order();
  graph.place();
  graph.straighten();
  const y = graph.heights(input.height);
  const bends: Float64Array[] = graph.chains.map((chain) => {
    const points = new Float64Array(2 * chain.length);
    chain.forEach((dummy, i) => {
      points[2 * i] = graph.x[dummy]!;
      points[2 * i + 1] = y.middle[graph.rank[dummy]!]!;
    });
    return points;
  });
  return {
    x: graph.x.slice(0, count),
    y: Float64Array.from(rank, (value) => y.middle[value]!),
    rank,
    ranks: graph.layers.length,
    bends,
  };
}

/** Longest path from the sources; then sources go down to just above who reads them. */
function ranks(count: number, edges: Uint32Array): Int32Array {
  const rank = new Int32Array(count);
  const lowest = new Int32Array(count).fill(-1);
  const isTarget = new Uint8Array(count);
  // Edges sorted by their start are in topological order, as items are.
  const order = Array.from({ length: edges.length / 2 }, (_, i) => i);
  order.sort((a, b) => edges[2 * a]! - edges[2 * b]!);
  for (const e of order) {
    const [from, to] = [edges[2 * e]!, edges[2 * e + 1]!];
    if (from >= to) continue; // a group around a node closes a cycle; it does not rank
    isTarget[to] = 1;
    if (rank[from]! + 1 > rank[to]!) rank[to] = rank[from]! + 1;
  }
  for (const e of order) {
    const [from, to] = [edges[2 * e]!, edges[2 * e + 1]!];
    if (from >= to || isTarget[from]) continue;
    if (lowest[from] === -1 || rank[to]! - 1 < lowest[from]!) lowest[from] = rank[to]! - 1;
  }
  for (let i = 0; i < count; i++) if (lowest[i]! > 0) rank[i] = lowest[i]!;
  return rank;
}

/** The graph with dummies, where every edge that counts joins neighbouring ranks. */
class Proper {
  readonly rank: number[];
  readonly above: number[][];
  readonly below: number[][];
  readonly layers: number[][] = [];
  readonly chains: number[][];
  readonly width: number[];
  x: Float64Array;

  constructor(input: LayoutInput, rank: Int32Array) {
    const { count, edges, width } = input;
    this.rank = Array.from(rank);
    this.width = Array.from(width);
    this.above = Array.from({ length: count }, () => []);
    this.below = Array.from({ length: count }, () => []);
    this.chains = Array.from({ length: edges.length / 2 }, () => []);
    for (let e = 0; e < edges.length / 2; e++) {
      const [from, to] = [edges[2 * e]!, edges[2 * e + 1]!];
      const span = rank[to]! - rank[from]!;
      if (span < 1 || span > LONGEST) continue;
      let last = from;
      for (let r = rank[from]! + 1; r < rank[to]!; r++) {
        const dummy = this.rank.length;
        this.rank.push(r);
        this.width.push(DUMMY);
        this.above.push([last]);
        this.below.push([]);
        this.below[last]!.push(dummy);
        this.chains[e]!.push(dummy);
        last = dummy;
      }
      this.below[last]!.push(to);
      this.above[to]!.push(last);
    }
    this.rank.forEach((r, i) => {
      this.layers[r] ??= [];
      this.layers[r].push(i);
    });
    this.x = new Float64Array(this.rank.length);
  }

  /** Sweeps down and up, each rank sorted by the mean position of its neighbours. */
  order(): void {
    const at = new Float64Array(this.rank.length);
    const key = new Float64Array(this.rank.length);
    for (const layer of this.layers)
      layer.forEach((item, i) => {
        at[item] = i;
      });
    for (let sweep = 0; sweep < ORDER_SWEEPS; sweep++) {
      const down = sweep % 2 === 0;
      const neighbours = down ? this.above : this.below;
      for (const layer of down ? this.layers : this.layers.toReversed()) {
        for (const item of layer) key[item] = mean(neighbours[item]!, at) ?? at[item]!;
        layer.sort((a, b) => key[a]! - key[b]!);
        layer.forEach((item, i) => {
          at[item] = i;
        });
      }
    }
  }

  /** Sweeps down and up, each rank as near to its neighbours as order and distance allow. */
  place(): void {
    for (const layer of this.layers) this.pack(layer, () => 0);
    for (let sweep = 0; sweep < PLACE_SWEEPS; sweep++) {
      const down = sweep % 2 === 0;
      const last = sweep >= PLACE_SWEEPS - 2;
      for (const layer of down ? this.layers : this.layers.toReversed()) {
        this.pack(layer, (item) => {
          const one = mean(down ? this.above[item]! : this.below[item]!, this.x);
          if (!last) return one ?? this.x[item]!;
          const other = mean(down ? this.below[item]! : this.above[item]!, this.x);
          return one === undefined
            ? (other ?? this.x[item]!)
            : other === undefined
              ? one
              : (one + other) / 2;
        });
      }
    }
  }

  /** Takes out the slow drift that places gather over many ranks: the spine of the graph is upright. */
  straighten(): void {
    const sums = new Float64Array(this.layers.length + 1); // of the ranks' means, from the first on
    this.layers.forEach((layer, r) => {
      sums[r + 1] = sums[r]! + mean(layer, this.x)!;
    });
    this.layers.forEach((layer, r) => {
      const from = Math.max(0, r - SPINE);
      const to = Math.min(this.layers.length, r + SPINE + 1);
      const drift = (sums[to]! - sums[from]!) / (to - from);
      for (const item of layer) this.x[item]! -= drift;
    });
  }

  /** Least squares of `wish` under order and distance: pool adjacent violators. */
  private pack(layer: number[], wish: (item: number) => number): void {
    const offset = new Float64Array(layer.length);
    for (let i = 1; i < layer.length; i++) {
      const [left, right] = [layer[i - 1]!, layer[i]!];
      offset[i] = offset[i - 1]! + (this.width[left]! + this.width[right]!) / 2 + GAP_X;
    }
    const value: number[] = [];
    const size: number[] = [];
    layer.forEach((item, i) => {
      value.push(wish(item) - offset[i]!);
      size.push(1);
      while (value.length > 1 && value.at(-2)! > value.at(-1)!) {
        const [v, n] = [value.pop()!, size.pop()!];
        const top = value.length - 1;
        value[top] = (value[top]! * size[top]! + v * n) / (size[top]! + n);
        size[top]! += n;
      }
    });
    let i = 0;
    value.forEach((v, block) => {
      for (let k = 0; k < size[block]!; k++, i++) this.x[layer[i]!] = v + offset[i]!;
    });
  }

  /** Middle of each rank: ranks are as high as their highest item. */
  heights(height: Float64Array): { middle: Float64Array } {
    const middle = new Float64Array(this.layers.length);
    let top = 0;
    this.layers.forEach((layer, r) => {
      let highest = 0;
      for (const item of layer)
        if (item < height.length) highest = Math.max(highest, height[item]!);
      middle[r] = top + highest / 2;
      top += highest + GAP_Y;
    });
    return { middle };
  }
}

function mean(items: number[], at: Float64Array): number | undefined {
  if (items.length === 0) return undefined;
  let sum = 0;
  for (const item of items) sum += at[item]!;
  return sum / items.length;
}
