// Feeds in React. A feed opens with its component, and closes with the last one that has it.

import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { hold, keyOf } from './shared.js';

/** @typedef {import('../fanwire.js').Fanwire} Fanwire */
/** @typedef {import('../fanwire.js').FanwireOptions} FanwireOptions */
/** @typedef {import('../transport/transport.js').Kind} Kind */
/**
 * Listeners are those of the newest render: they need no `useCallback`.
 * @typedef {object} Listeners
 * @property {(event: any) => void} [onMessage] of the type `message`, and of `types`
 * @property {string[]} [types] further ones
 * @property {(event: CustomEvent) => void} [onGap]
 * @property {(event: any) => void} [onError]
 */
/** @typedef {{ feed: Fanwire | null, readyState: 0 | 1 | 2, transport: Kind | null }} FeedState */

/**
 * @param {string | URL | null | undefined} url of the feed; none, and there is no feed
 * @param {FanwireOptions & Listeners} [options] `token`, where it is a function, is the newest render's as well
 * @returns {FeedState} `feed` is null until the component is there
 */
export function useFanwire(url, { onMessage, onGap, onError, types = [], token, ...options } = {}) {
  const newest = useRef(/** @type {Listeners & { token?: import('../token.js').TokenProvider | undefined }} */ ({}));
  useEffect(() => {
    newest.current = { ...(onMessage && { onMessage }), ...(onGap && { onGap }), ...(onError && { onError }), token };
  });
  // One of its own for each component, since each may give its own; always the same one, since a new one would be a new feed.
  const [ownToken] = useState(() => async () => {
    const { token: given } = newest.current;
    const answer = typeof given === 'function' ? await given() : given;
    if (answer === undefined) throw new Error('there is no token any more');
    return answer;
  });
  /** @type {FanwireOptions} */
  const all = token === undefined ? options : { ...options, token: typeof token === 'function' ? ownToken : token };
  const key = url === null || url === undefined ? null : keyOf(url, all);
  const heard = JSON.stringify(['message', ...types]);
  const [feed, setFeed] = useState(/** @type {Fanwire | null} */ (null));

  // What the key says is all that matters of the URL and the options.
  useEffect(() => {
    if (key === null || url === null || url === undefined) return undefined;
    const held = hold(key, url, all);
    setFeed(held.feed);
    return () => {
      held.release();
      setFeed(null);
    };
  }, [key]);

  useEffect(() => {
    if (!feed) return undefined;
    const aborter = new AbortController();
    const options = { signal: aborter.signal };
    for (const type of new Set(JSON.parse(heard))) {
      // The client's own events may have a name that somebody publishes.
      feed.addEventListener(type, (event) => event instanceof MessageEvent && newest.current.onMessage?.(event), options);
    }
    feed.addEventListener('gap', (event) => event instanceof MessageEvent || newest.current.onGap?.(event), options);
    feed.addEventListener('error', (event) => event instanceof MessageEvent || newest.current.onError?.(event), options);
    return () => aborter.abort();
  }, [feed, heard]);

  const readyState = useFeedState(feed, ({ readyState: state }) => state, /** @type {0 | 1 | 2} */ (0));
  const transport = useFeedState(feed, ({ transport: kind }) => kind, null);
  return { feed, readyState, transport };
}

/**
 * The newest event of a feed, for what shows only that.
 * @param {string | URL | null | undefined} url
 * @param {FanwireOptions & Listeners} [options]
 * @returns {any} a MessageEvent; null until one has come
 */
export function useLatestEvent(url, options = {}) {
  const [latest, setLatest] = useState(/** @type {{ url: string, event: any } | null} */ (null));
  const own = String(url);
  useFanwire(url, {
    ...options,
    onMessage(event) {
      setLatest({ url: own, event });
      options.onMessage?.(event);
    },
  });
  return latest?.url === own ? latest.event : null;
}

/**
 * @template T
 * @param {Fanwire | null} feed
 * @param {(feed: Fanwire) => T} read
 * @param {T} without
 */
function useFeedState(feed, read, without) {
  const [subscribe] = useState(() => new WeakMap());
  /** @type {(changed: () => void) => () => void} */
  let subscribeTo = none;
  if (feed) {
    subscribeTo = subscribe.get(feed) ?? ((changed) => {
      feed.addEventListener('state', changed);
      return () => feed.removeEventListener('state', changed);
    });
    subscribe.set(feed, subscribeTo);
  }
  return useSyncExternalStore(subscribeTo, () => (feed ? read(feed) : without), () => without);
}

const none = () => () => {};
