// Feeds that components share: the same URL with the same options is one connection, whoever asks. One that is let go of stays open
// for a moment, so that a component that is taken down and put up again, as by React's StrictMode or a hot reload, has its feed still.

import { Fanwire } from '../fanwire.js';

/** @typedef {import('../fanwire.js').FanwireOptions} FanwireOptions */
/** @typedef {{ feed: Fanwire, release: () => void }} Held */

/**
 * What tells feeds apart.
 * @param {string | URL} url
 * @param {FanwireOptions} options functions and objects count by their identity
 */
export function keyOf(url, options) {
  const parts = Object.entries(options).map(([name, value]) => {
    const isPlain = value === null || (typeof value !== 'object' && typeof value !== 'function');
    return [name, isPlain ? (value ?? null) : `#${identityOf(value)}`];
  });
  return JSON.stringify([String(url), ...parts.sort()]);
}

/**
 * @param {string} key
 * @param {string | URL} url
 * @param {FanwireOptions} options
 * @returns {Held} release it once
 */
export function hold(key, url, options) {
  let entry = entries.get(key);
  // Closed by its application, or by its hub.
  if (!entry || entry.feed.readyState === Fanwire.CLOSED) entry = { feed: new Fanwire(url, options), holders: 0 };
  const held = entry;
  entries.set(key, held);
  held.holders++;
  let isHeld = true;
  return {
    feed: held.feed,
    release() {
      if (!isHeld) return;
      isHeld = false;
      held.holders--;
      setTimeout(() => {
        if (held.holders > 0) return;
        held.feed.close();
        if (entries.get(key) === held) entries.delete(key);
      }, LINGER_MS);
    },
  };
}

/** @param {object} value */
function identityOf(value) {
  let identity = identities.get(value);
  if (identity === undefined) identities.set(value, (identity = ++identitiesGiven));
  return identity;
}

/** @type {Map<string, { feed: Fanwire, holders: number }>} */
const entries = new Map();
/** @type {WeakMap<object, number>} */
const identities = new WeakMap();
let identitiesGiven = 0;
const LINGER_MS = 200;
