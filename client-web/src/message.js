// What a hub says in a feed, the same on every transport. Pure. [PROTOCOL §3]

import { parseCursor } from './cursor.js';

/** @typedef {import('./cursor.js').Cursor} Cursor */
/** @typedef {'live' | 'resumed' | 'earliest' | 'latest' | 'new_epoch' | 'unknown_cursor'} Verdict */
/** @typedef {{ name: 'hello', cursor: Cursor, verdict: Verdict, heartbeatMs: number }} Hello */
/** @typedef {{ name: 'gap', reason: string, from: number | null, to: number, cursor: Cursor }} Gap */
/** @typedef {{ name: 'ping', watermark: Cursor }} Ping */
/** @typedef {{ name: 'changed', requestId: number, fromSeq: number }} Changed */
/** @typedef {{ name: 'bye', code: number, reason: string, retryMs: number | null }} Bye */
/** @typedef {{ name: 'plain' }} Plain in place of a hello: this hub has no control messages and no cursors, as another's */
/**
 * An event as it came over a transport.
 * @typedef {object} FeedEvent
 * @property {'event'} name
 * @property {Cursor | null} cursor null of a hub that has none
 * @property {number | null} prevSeq the event before it in this feed, where the transport says so
 * @property {number | null} at when the hub took it, milliseconds since the Unix epoch
 * @property {string | null} topic the canonical topic
 * @property {string | null} id the publisher's id
 * @property {string} type `message` where the publisher gave none
 * @property {string | Uint8Array} data
 */
/** @typedef {Hello | Plain | Gap | Ping | Changed | Bye | FeedEvent} Message */

/** A peer's bytes are not what the protocol says they are. */
export class Malformed extends Error {
  /** @param {string} message what is wrong */
  constructor(message) {
    super(message);
    this.name = 'Malformed';
  }
}

/**
 * Reads a control message.
 * @param {string} name as on SSE: `hello`, `gap`, …
 * @param {unknown} body the parsed JSON
 * @returns {Hello | Gap | Ping | Changed | Bye | null} null for a message of a later version
 * @throws {Malformed}
 */
export function readControl(name, body) {
  if (!Object.hasOwn(READERS, name)) return null;
  if (typeof body !== 'object' || body === null) throw new Malformed(`a ${name} that is no object`);
  return READERS[/** @type {keyof typeof READERS} */ (name)](/** @type {Record<string, unknown>} */ (body));
}

/**
 * Parses JSON whose origin is a peer.
 * @param {string} text
 * @returns {unknown}
 * @throws {Malformed}
 */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Malformed('a control message that is no JSON');
  }
}

const READERS = {
  /** @param {Record<string, unknown>} body @returns {Hello} */
  hello(body) {
    if (body.version !== PROTOCOL_VERSION) throw new Malformed(`the hub speaks version ${String(body.version)}`);
    const heartbeatMs = body.heartbeat_ms;
    if (typeof heartbeatMs !== 'number' || !(heartbeatMs > 0)) throw new Malformed('a hello without heartbeat_ms');
    const verdict = /** @type {Verdict} */ (body.verdict);
    return { name: 'hello', cursor: cursorOf('hello', body.cursor), verdict, heartbeatMs };
  },
  /** @param {Record<string, unknown>} body @returns {Gap} */
  gap(body) {
    const from = body.from === undefined || body.from === null ? null : seqOf('gap', body.from);
    const cursor = cursorOf('gap', body.cursor);
    return { name: 'gap', reason: String(body.reason), from, to: seqOf('gap', body.to), cursor };
  },
  /** @param {Record<string, unknown>} body @returns {Ping} */
  ping(body) {
    return { name: 'ping', watermark: cursorOf('ping', body.watermark) };
  },
  /** @param {Record<string, unknown>} body @returns {Changed} */
  changed(body) {
    const requestId = seqOf('changed', body.request_id);
    return { name: 'changed', requestId, fromSeq: seqOf('changed', body.from_seq) };
  },
  /** @param {Record<string, unknown>} body @returns {Bye} */
  bye(body) {
    const code = typeof body.code === 'number' ? body.code : BYE_INTERNAL;
    // Only an explicit null keeps a client away for good.
    const retryMs = body.retry_ms === null ? null : Math.max(0, Number(body.retry_ms ?? 0) || 0);
    return { name: 'bye', code, reason: String(body.reason ?? ''), retryMs };
  },
};

/** @param {string} name @param {unknown} value */
function cursorOf(name, value) {
  const cursor = parseCursor(value);
  if (!cursor) throw new Malformed(`a ${name} without a cursor`);
  return cursor;
}

/** @param {string} name @param {unknown} value */
function seqOf(name, value) {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new Malformed(`a ${name} with a number that is none`);
  }
  return value;
}

const PROTOCOL_VERSION = 1;
const BYE_INTERNAL = 6;
