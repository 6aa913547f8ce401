/** Values from Python: a JSON header and typed arrays in one buffer; mirrors views/wire.py. */

const MAGIC = 0x314c4d46; // "FML1", little-endian
const ALIGN = 8;

type TypedArray = Uint8Array | Uint32Array | Int32Array | Float32Array | Float64Array;

const TYPES = {
  u1: Uint8Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
};

interface Entry {
  type: keyof typeof TYPES;
  at: number; // bytes from the end of the header
  length: number; // elements
}

export interface Message<Header> {
  header: Header;
  arrays: Record<string, TypedArray>;
}

/** Whether a trait holds a value at all; an empty buffer says that there is none. */
export function isEmpty(bytes: DataView | undefined): boolean {
  return !bytes || bytes.byteLength === 0;
}

/** Reads what `encode` of views/wire.py wrote; throws where it is something else. */
export function decode<Header>(bytes: DataView, schema: string): Message<Header> {
  // A copy: typed arrays want aligned offsets, and a message may lie anywhere in its frame.
  const buffer = bytes.buffer.slice(
    bytes.byteOffset,
    bytes.byteOffset + bytes.byteLength,
  ) as ArrayBuffer;
  const view = new DataView(buffer);
  if (buffer.byteLength < ALIGN || view.getUint32(0, true) !== MAGIC) {
    throw new Error("this is not a value of FlashMem Lab");
  }
  const length = view.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, ALIGN, length)));
  if (header.schema !== schema) {
    throw new Error(`expected ${schema}, got ${header.schema}: reload the page`);
  }
  const arrays: Record<string, TypedArray> = {};
  for (const [name, entry] of Object.entries(header.arrays as Record<string, Entry>)) {
    arrays[name] = new TYPES[entry.type](buffer, ALIGN + length + entry.at, entry.length);
  }
  return { header: header as Header, arrays };
}
