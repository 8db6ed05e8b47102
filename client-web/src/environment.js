// What the client takes from its surroundings, in one place, so that a test can put in its own.

/**
 * @typedef {object} Environment
 * @property {() => number} nowMs a clock that only moves forward, in milliseconds
 * @property {() => number} wallMs milliseconds since the Unix epoch
 * @property {(run: () => void, delayMs: number) => unknown} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {() => number} random from 0 up to 1
 * @property {string | undefined} baseUrl what relative URLs are resolved against
 * @property {typeof globalThis.fetch | undefined} fetch not to be called as a member of this
 * @property {typeof globalThis.EventSource | undefined} EventSource
 * @property {typeof globalThis.WebTransport | undefined} WebTransport
 * @property {{ userAgent: string }} [navigator]
 * @property {() => Record<string, string>} storage throws where it is forbidden
 * @property {EventTarget} [page] what fires `pagehide`, `pageshow` and `online`; a worker ends with its page, and knows only the last
 * @property {EventTarget & { visibilityState: string }} [document]
 * @property {EventTarget & { type?: string, effectiveType?: string }} [connection] what fires `change`
 */

/** @returns {Environment} */
export function browserEnvironment() {
  // WebTransport is absent in WebKit before 26.4, and on pages that aren't a secure context.
  const { document, EventSource, fetch, location, WebTransport } = globalThis;
  return {
    nowMs: () => performance.now(),
    wallMs: Date.now,
    setTimer: (run, delayMs) => setTimeout(run, delayMs),
    clearTimer: (timer) => clearTimeout(timer),
    random: Math.random,
    baseUrl: document?.baseURI ?? location?.href,
    EventSource,
    fetch,
    WebTransport,
    storage: () => globalThis.localStorage ?? inWorker,
  };
}

/** A worker has no storage: what one feed learned there is for the next. @type {Record<string, string>} */
const inWorker = {};
