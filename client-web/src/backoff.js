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

  /** Goes on as after so many attempts; 0 where the connection held. @param {number} attempts */
  begin(attempts) {
    this.#attempts = attempts;
  }

  #attempts = 0;
}

const MIN_MS = 500;
