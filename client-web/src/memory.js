// Whether WebTransport worked to a hub, and where it was: for the next page, and for the next feed of this one.

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Memory
 * @property {boolean} works
 * @property {unknown} offer what the hub said of WebTransport; null where it isn't known
 */

/**
 * What is remembered of a hub.
 * @param {string} origin
 * @param {Environment} environment
 * @returns {Memory | null} null where nothing is, or where it is too old
 */
export function recall(origin, { storage, wallMs }) {
  try {
    const { works, offer, untilMs } = JSON.parse(storage().getItem(KEY + origin) ?? 'null');
    return untilMs > wallMs() && untilMs < wallMs() + WORKS_MS + 1 ? { works: works === true, offer: offer ?? null } : null;
  } catch {
    return null; // Nothing, or not ours.
  }
}

/** @param {string} origin @param {Environment} environment @param {Memory} memory */
export function remember(origin, { storage, wallMs }, { works, offer }) {
  const untilMs = wallMs() + (works ? WORKS_MS : FAILS_MS);
  try {
    storage().setItem(KEY + origin, JSON.stringify({ works, offer: works ? offer : null, untilMs }));
  } catch {
    // Full, or forbidden.
  }
}

/** @param {string} origin @param {Environment} environment */
export function forget(origin, { storage }) {
  try {
    storage().removeItem(KEY + origin);
  } catch {
    // Then there is nothing either.
  }
}

const KEY = 'fanwire ';
const WORKS_MS = 24 * 3_600_000;
/** Networks change while no page looks. */
const FAILS_MS = 10 * 60_000;
