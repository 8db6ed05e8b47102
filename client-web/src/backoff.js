// How long to wait before the next attempt. Pure: the randomness comes in.

/** Full jitter over a window that doubles, so that a crowd that lost its hub doesn't come back at once. */
export class Backoff {
  /**
   * Milliseconds to wait before the next attempt; the window is wider each time.
   * @param {number} random from 0 up to 1
   * @param {number} maxMs
   */
  nextMs(random, maxMs) {
    const ceilingMs = Math.min(maxMs, MIN_MS * 2 ** ++this.#attempts);
    return Math.round(MIN_MS + random * (ceilingMs - MIN_MS));
  }

  /**
   * Milliseconds to wait before WebTransport that worked is tried again. Chromium counts a page's failed handshakes of the last five minutes
   * and holds the next one back for 10 ms · 2^(their number − 1): ten cost 5 s, thirteen 40 s. These waits stay at about ten,
   * and below half a minute.
   * @param {number} random from 0 up to 1
   */
  returnMs(random) {
    const [leastMs, mostMs] = /** @type {[number, number]} */ (RETURNS[Math.min(this.#attempts++, RETURNS.length - 1)]);
    return Math.round(leastMs + random * (mostMs - leastMs));
  }

  /** Goes on as after so many attempts; 0 where the connection held. @param {number} attempts */
  begin(attempts) {
    this.#attempts = attempts;
  }

  #attempts = 0;
}

const MIN_MS = 500;
/** From and to, after the first attempt, the second, and every later one. */
const RETURNS = [
  [500, 1000],
  [4000, 8000],
  [20_000, 25_000],
];
