// Feeds in Vue. A feed opens with its component's scope, and closes with the last one that has it.

import { onScopeDispose, shallowReadonly, shallowRef, toValue, watch } from 'vue';
import { hold, keyOf } from './shared.js';

/** @typedef {import('../fanwire.js').Fanwire} Fanwire */
/** @typedef {import('../fanwire.js').FanwireOptions} FanwireOptions */
/** @typedef {import('../transport/transport.js').Kind} Kind */
/** @template T @typedef {import('vue').MaybeRefOrGetter<T>} MaybeRefOrGetter */
/** @template T @typedef {import('vue').ShallowRef<T>} ShallowRef */
/**
 * @typedef {object} Listeners
 * @property {(event: any) => void} [onMessage] of the type `message`, and of `types`
 * @property {string[]} [types] further ones
 * @property {(event: CustomEvent) => void} [onGap]
 * @property {(event: any) => void} [onError]
 */
/**
 * @typedef {object} FeedRefs
 * @property {Readonly<ShallowRef<Fanwire | null>>} feed
 * @property {Readonly<ShallowRef<0 | 1 | 2>>} readyState
 * @property {Readonly<ShallowRef<Kind | null>>} transport
 * @property {Readonly<ShallowRef<any>>} latest the newest event; null until one has come
 */

/**
 * @param {MaybeRefOrGetter<string | URL | null | undefined>} url of the feed; none, and there is no feed. A ref, or a getter, and
 *   the feed changes with it
 * @param {FanwireOptions & Listeners} [options]
 * @returns {FeedRefs}
 */
export function useFanwire(url, { onMessage, onGap, onError, types = [], ...options } = {}) {
  const feed = shallowRef(/** @type {Fanwire | null} */ (null));
  const readyState = shallowRef(/** @type {0 | 1 | 2} */ (0));
  const transport = shallowRef(/** @type {Kind | null} */ (null));
  const latest = shallowRef(/** @type {any} */ (null));
  let leave = () => {};

  /** @param {string | URL} target */
  const open = (target) => {
    const held = hold(keyOf(target, options), target, options);
    const aborter = new AbortController();
    const listening = { signal: aborter.signal };
    const tellState = () => {
      readyState.value = held.feed.readyState;
      transport.value = held.feed.transport;
    };
    for (const type of new Set(['message', ...types])) {
      held.feed.addEventListener(type, (event) => {
        // The client's own events may have a name that somebody publishes.
        if (!(event instanceof MessageEvent)) return;
        latest.value = event;
        onMessage?.(event);
      }, listening);
    }
    held.feed.addEventListener('gap', (event) => event instanceof MessageEvent || onGap?.(event), listening);
    held.feed.addEventListener('error', (event) => event instanceof MessageEvent || onError?.(event), listening);
    held.feed.addEventListener('state', (event) => event instanceof MessageEvent || tellState(), listening);
    feed.value = held.feed;
    tellState();
    leave = () => {
      aborter.abort();
      held.release();
    };
  };
  watch(() => toValue(url), (target) => {
    leave();
    leave = () => {};
    feed.value = latest.value = transport.value = null;
    readyState.value = 0;
    // Not where pages are made: there is nobody to listen.
    if (target !== null && target !== undefined && typeof window !== 'undefined') open(target);
  }, { immediate: true });
  onScopeDispose(() => leave());
  return {
    feed: shallowReadonly(feed),
    readyState: shallowReadonly(readyState),
    transport: shallowReadonly(transport),
    latest: shallowReadonly(latest),
  };
}
