// What the client takes from its surroundings, in one place, so that a test can put in its own.

/**
 * @typedef {object} Environment
 * @property {() => number} nowMs a clock that only moves forward, in milliseconds
 * @property {() => number} wallMs milliseconds since the Unix epoch
 * @property {(run: () => void, delayMs: number) => unknown} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {() => number} random from 0 up to 1
 * @property {string | undefined} baseUrl what relative URLs are resolved against
 * @property {typeof globalThis.fetch | undefined} fetch
 * @property {typeof globalThis.EventSource | undefined} EventSource
 * @property {typeof globalThis.WebTransport | undefined} WebTransport
 * @property {boolean} isWebKit
 * @property {() => Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} storage throws where it is forbidden
 * @property {EventTarget | undefined} page what fires `pagehide`, `pageshow` and `online`; a worker ends with its page, and knows only the last
 * @property {(EventTarget & { visibilityState: string }) | undefined} document
 * @property {(EventTarget & { type?: string, effectiveType?: string }) | undefined} connection what fires `change`
 */

/** @returns {Environment} */
export function browserEnvironment() {
  const { document, navigator } = globalThis;
  const agent = navigator?.userAgent ?? '';
  return {
    nowMs: () => performance.now(),
    wallMs: Date.now,
    setTimer: (run, delayMs) => setTimeout(run, delayMs),
    clearTimer: (timer) => clearTimeout(timer),
    random: Math.random,
    baseUrl: document?.baseURI ?? globalThis.location?.href,
    fetch: globalThis.fetch?.bind(globalThis),
    EventSource: globalThis.EventSource,
    // Absent in WebKit before 26.4, and on pages that aren't a secure context.
    WebTransport: globalThis.WebTransport,
    // Every browser of an iPhone too.
    isWebKit: /AppleWebKit/.test(agent) && !/Chrom(e|ium)\//.test(agent),
    storage: () => globalThis.localStorage ?? inWorker,
    page: typeof globalThis.addEventListener === 'function' ? globalThis : undefined,
    document,
    connection: /** @type {any} */ (navigator)?.connection,
  };
}

/** A worker has no storage: what one feed learned there is for the next. @type {Map<string, string>} */
const known = new Map();
const inWorker = {
  getItem: (/** @type {string} */ key) => known.get(key) ?? null,
  setItem: (/** @type {string} */ key, /** @type {string} */ value) => void known.set(key, value),
  removeItem: (/** @type {string} */ key) => void known.delete(key),
};
