// How long to wait before the next attempt. Pure: the randomness comes in.

/** Full jitter over a window that doubles, so that a crowd that lost its hub doesn't come back at once. */
export class Backoff {
  /** @param {{ minMs?: number, maxMs?: number }} [limits] */
  constructor({ minMs = 500, maxMs = 30_000 } = {}) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
  }

  /**
   * Milliseconds to wait before the next attempt; the window is wider each time.
   * @param {number} random from 0 up to 1
   */
  nextMs(random) {
    this.#attempts = Math.min(this.#attempts + 1, ATTEMPTS_MAX);
    const ceilingMs = Math.min(this.#maxMs, this.#minMs * 2 ** this.#attempts);
    return Math.round(this.#minMs + random * (ceilingMs - this.#minMs));
  }

  /** The connection held: begin again with the shortest window. */
  reset() {
    this.#attempts = 0;
  }

  #minMs;
  #maxMs;
  #attempts = 0;
}

/** Keeps 2 ** attempts finite; no window grows that far. */
const ATTEMPTS_MAX = 30;
