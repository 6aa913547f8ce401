/** Bytes and times for people, as flashmem_lab/units.py writes them. */

const SIZES = ["B", "kB", "MB", "GB", "TB"];

/** Decimal units: 25_700_000 is "25.7 MB". */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < SIZES.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${SIZES[unit]}`;
}

/** 0.012 is "12 µs", 1234 is "1.23 s". */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms >= 10) return `${ms.toFixed(0)} ms`;
  if (ms >= 0.1) return `${ms.toFixed(2)} ms`;
  return `${(ms * 1000).toFixed(0)} µs`;
}

/** The end of a long name: scopes come first, the operator last. */
export function shorten(text: string, limit: number): string {
  return text.length <= limit ? text : `…${text.slice(1 - limit)}`;
}
