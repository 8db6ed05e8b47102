// What a hub says in a feed, the same on every transport. Pure. [PROTOCOL §3]

import { parseCursor } from './cursor.js';

/** @typedef {import('./cursor.js').Cursor} Cursor */
/** @typedef {'live' | 'resumed' | 'earliest' | 'latest' | 'new_epoch' | 'unknown_cursor'} Verdict */
/** @typedef {{ name: 'hello', cursor: Cursor | null, verdict: Verdict | null, heartbeatMs: number | null }} Hello all null of a hub that has no control messages and no cursors, as another's */
/** @typedef {{ name: 'gap', reason: string, from: number | null, to: number, cursor: Cursor }} Gap */
/** @typedef {{ name: 'ping', watermark: Cursor }} Ping */
/** @typedef {{ name: 'bye' } & import('./transport/transport.js').End} Bye */
/**
 * An event as it came over a transport.
 * @typedef {object} FeedEvent
 * @property {'event'} name
 * @property {Cursor | null} cursor null of a hub that has none
 * @property {number | null} at when the hub took it, milliseconds since the Unix epoch
 * @property {string | null} topic the canonical topic
 * @property {string | null} id the publisher's id
 * @property {string} type `message` where the publisher gave none
 * @property {string | Uint8Array} data
 * @property {boolean} [isLoose] it comes before something older, or after something newer: `loose.js`
 */
/** @typedef {Hello | Gap | Ping | Bye | FeedEvent} Message */

/**
 * Reads a control message.
 * @param {string} name as on SSE: `hello`, `gap`, …
 * @param {unknown} body the parsed JSON
 * @returns {Hello | Gap | Ping | Bye | null} null for a message of a later version
 * @throws where it makes no sense
 */
export function readControl(name, body) {
  if (!Object.hasOwn(READERS, name)) return null;
  try {
    return READERS[/** @type {keyof typeof READERS} */ (name)](body);
  } catch {
    throw new Error(`a malformed ${name}: ${JSON.stringify(body)}`);
  }
}

/** Each throws where the body isn't what it should be; a body without members is none. */
const READERS = {
  /** @param {any} body @returns {Hello} */
  hello: ({ version, cursor, verdict, heartbeat_ms: heartbeatMs }) => {
    need(version === PROTOCOL_VERSION && heartbeatMs > 0);
    return { name: 'hello', cursor: need(parseCursor(cursor)), verdict, heartbeatMs };
  },
  /** @param {any} body @returns {Gap} */
  gap: ({ reason, from = null, to, cursor }) => ({ name: 'gap', reason, from: from === null ? from : seq(from), to: seq(to), cursor: need(parseCursor(cursor)) }),
  /** @param {any} body @returns {Ping} */
  ping: ({ watermark }) => ({ name: 'ping', watermark: need(parseCursor(watermark)) }),
  /** @param {any} body @returns {Bye} */
  bye: ({ code = BYE_INTERNAL, reason = '', retry_ms: retryMs = 0 }) => {
    // Only an explicit null keeps a client away for good.
    const isTerminal = retryMs === null;
    return { name: 'bye', code, reason, retryMs: isTerminal ? retryMs : seq(retryMs), isTerminal };
  },
};

/** @param {any} value @returns {number} */
function seq(value) {
  need(Number.isSafeInteger(value) && value >= 0);
  return value;
}

/** @template T @param {T | null | false} value */
function need(value) {
  if (!value) throw new Error();
  return value;
}

const PROTOCOL_VERSION = 1;
const BYE_INTERNAL = 6;
