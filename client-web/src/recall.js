// What is remembered of a hub: whether WebTransport worked to it, how quick it was, and where. What is learned is written by `beside.js`.

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Memory
 * @property {boolean} [works] absent where nobody knows
 * @property {number} [sseMs] how long SSE took until the hub's hello, when a feed last began with both
 * @property {number} [webtransportMs] how long WebTransport took when a feed last began, with what has to be loaded for it
 * @property {unknown} [offer] what the hub said of WebTransport
 * @property {number} [untilMs] when it is void, since the Unix epoch
 */

/**
 * @param {string} origin
 * @param {Environment} environment
 * @returns {Memory}
 */
export function recall(origin, { storage, wallMs }) {
  try {
    const memory = JSON.parse(storage()[KEY + origin] ?? '{}');
    const leftMs = memory.untilMs - wallMs();
    if (leftMs > 0 && leftMs <= WORKS_MS) return memory;
  } catch {
    // Not ours.
  }
  return {};
}

export const KEY = 'fanwire ';
/** What works is known for the longest time. */
export const WORKS_MS = 24 * 3_600_000;
