// What the client takes from its surroundings, in one place, so that a test can put in its own.

/**
 * @typedef {object} Environment
 * @property {() => number} nowMs a clock that only moves forward, in milliseconds
 * @property {(run: () => void, delayMs: number) => unknown} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {() => number} random from 0 up to 1
 * @property {string | undefined} baseUrl what relative URLs are resolved against
 * @property {typeof globalThis.fetch | undefined} fetch
 * @property {typeof globalThis.EventSource | undefined} EventSource
 * @property {typeof globalThis.WebTransport | undefined} WebTransport
 * @property {EventTarget | undefined} page what fires `pagehide` and `pageshow`; a worker has none, and ends with its page
 */

/** @returns {Environment} */
export function browserEnvironment() {
  return {
    nowMs: () => performance.now(),
    setTimer: (run, delayMs) => setTimeout(run, delayMs),
    clearTimer: (timer) => clearTimeout(timer),
    random: Math.random,
    baseUrl: globalThis.document?.baseURI ?? globalThis.location?.href,
    fetch: globalThis.fetch?.bind(globalThis),
    EventSource: globalThis.EventSource,
    // Absent in WebKit before 26.4, and on pages that aren't a secure context.
    WebTransport: globalThis.WebTransport,
    page: globalThis.window,
  };
}
