// How long to wait before the next attempt. Pure: the randomness comes in.

/**
 * Milliseconds to wait, with full jitter over a window that doubles, so that a crowd that lost its hub doesn't come back at once.
 * @param {number} failures that came before this one
 * @param {number} random from 0 up to 1
 */
export function waitMs(failures, random, maxMs = WAIT_MS_MAX) {
  return Math.round(WAIT_MS_MIN + random * (Math.min(maxMs, 2 * WAIT_MS_MIN * 2 ** failures) - WAIT_MS_MIN));
}

const WAIT_MS_MIN = 500;
const WAIT_MS_MAX = 30_000;
