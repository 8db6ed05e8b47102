// Waiting for what is to happen, with a bound, and never for a time.

/** How long anything may take that is to happen at once; generous, as two cores may be busy. */
export const SOON_MS = 10_000;

/**
 * Waits until `probe` gives something truthy, and gives that.
 * @template T
 * @param {string} what for the message, where it doesn't come true
 * @param {() => T | Promise<T>} probe
 * @param {number} [withinMs]
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, probe, withinMs = SOON_MS) {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS));
  }
}

/**
 * Bounds a promise.
 * @template T
 * @param {string} what
 * @param {Promise<T>} promise
 * @param {number} [withinMs]
 * @returns {Promise<T>}
 */
export async function within(what, promise, withinMs = SOON_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${withinMs} ms: ${what}`)), withinMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const PROBE_INTERVAL_MS = 20;
