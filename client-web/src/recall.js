// What is remembered of a hub: whether WebTransport worked to it, and where it was. What is learned is written by `beside.js`.

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Memory
 * @property {boolean | null} works null where nobody knows
 * @property {unknown} offer what the hub said of WebTransport; null where that isn't known
 */

/**
 * @param {string} origin
 * @param {Environment} environment
 * @returns {Memory}
 */
export function recall(origin, { storage, wallMs }) {
  try {
    const { works, offer, untilMs } = JSON.parse(storage()[KEY + origin] ?? '');
    const leftMs = untilMs - wallMs();
    if (leftMs > 0 && leftMs <= WORKS_MS) return { works, offer };
  } catch {
    // Nothing, or not ours.
  }
  return { works: null, offer: null };
}

export const KEY = 'fanwire ';
/** What works is known for the longest time. */
export const WORKS_MS = 24 * 3_600_000;
