// The bytes of a WebTransport feed: `frame = type (varint) length (varint) payload`. Pure. [PROTOCOL §5.2]

import { readControl } from './message.js';
import { reasonOf } from './transport/transport.js';

/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./message.js').FeedEvent & { prevSeq: number }} FrameEvent `prevSeq`: the event before it in this feed */
/**
 * A frame as it came: its type, known or not, and its payload. The payload may share memory with the bytes that were
 * fed: read it before feeding more.
 * @typedef {{ type: number, payload: Uint8Array }} Frame
 */

/**
 * The matchers or rights of a feed changed, as was asked for in band. [PROTOCOL §3.4]
 * @typedef {{ name: 'changed', requestId: number, fromSeq: number }} Changed
 */

/** A peer's bytes are not what the protocol says they are. */
export class Malformed extends Error {
  /** @override */
  name = 'Malformed';
}

/** Types of frames. */
export const FRAME = Object.freeze({
  HELLO: 0x00, EVENT: 0x01, GAP: 0x02, CHANGED: 0x03, PING: 0x04, BYE: 0x05,
  AUTH: 0x10, SUBSCRIBE: 0x11, UNSUBSCRIBE: 0x12, ANSWER: 0x20,
});

/** The largest payload that is taken, in bytes. */
export const PAYLOAD_BYTES_MAX = 8 * 1024 * 1024;

/** Cuts bytes into frames, however they are split. Holds at most one frame, of a bounded size, and one chunk. */
export class FrameDecoder {
  /** @param {number} [payloadBytesMax] */
  constructor(payloadBytesMax = PAYLOAD_BYTES_MAX) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  /**
   * Takes bytes in. Call `next()` until it gives null before feeding more.
   * @param {Uint8Array} chunk
   */
  feed(chunk) {
    const left = this.#end - this.#start;
    if (left === 0) {
      // Nothing is left over: read from the chunk itself, without a copy.
      this.#bytes = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      this.#owned = false;
      return;
    }
    if (!this.#owned || this.#end + chunk.length > this.#bytes.length) {
      // Doubling keeps a frame that comes a byte at a time from being copied once a byte.
      const grown = new Uint8Array(Math.max(2 * left, left + chunk.length, BUFFER_BYTES_MIN));
      grown.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = grown;
      this.#start = 0;
      this.#end = left;
      this.#owned = true;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /**
   * The next whole frame.
   * @returns {Frame | null} null until more bytes come
   * @throws {Malformed} where a frame is longer than allowed; the stream is of no further use
   */
  next() {
    const reader = new Reader(this.#bytes, this.#start, this.#end);
    const type = reader.varint();
    const length = type === null ? null : reader.varint();
    if (type === null || length === null) return null;
    if (length > this.#payloadBytesMax) throw new Malformed('a frame is longer than allowed');
    const payload = reader.take(length);
    if (!payload) return null;
    this.#start = reader.offset;
    return { type, payload };
  }

  /** Whether the stream may end here: no frame is begun. */
  get isEmpty() {
    return this.#start === this.#end;
  }

  #payloadBytesMax;
  /** @type {Uint8Array} */
  #bytes = new Uint8Array(0);
  #start = 0;
  #end = 0;
  /** Whether `#bytes` is ours to write to. */
  #owned = false;
}

/**
 * Reads a frame of a feed.
 * @param {Frame} frame
 * @param {string | null} epoch of this feed's log; null before HELLO
 * @returns {Exclude<Message, { name: 'event' }> | FrameEvent | Changed | null} null for a type that isn't known, which is skipped
 * @throws {Malformed}
 */
export function readFrame(frame, epoch) {
  if (frame.type === FRAME.EVENT) {
    if (epoch === null) throw new Malformed('an EVENT before HELLO');
    return readEvent(frame.payload, epoch);
  }
  const name = CONTROL_NAMES.get(frame.type);
  if (name === undefined) return null;
  const body = parseJson(frame.payload);
  if (name === 'changed') {
    const { request_id: requestId, from_seq: fromSeq } = /** @type {any} */ (body) ?? {};
    return { name, requestId: safe(requestId), fromSeq: safe(fromSeq) };
  }
  try {
    return readControl(name, body);
  } catch (error) {
    throw new Malformed(reasonOf(error));
  }
}

/**
 * Reads the payload of an EVENT. [PROTOCOL §5.3]
 * @param {Uint8Array} payload
 * @param {string} epoch
 * @returns {FrameEvent}
 * @throws {Malformed}
 */
export function readEvent(payload, epoch) {
  const reader = new Reader(payload, 0, payload.length);
  const prevSeq = safe(reader.varint());
  const seq = safe(reader.varint());
  const at = safe(reader.varint());
  const flags = safe(reader.varint());
  const id = flags & FLAG_ID ? name(reader) : null;
  const type = flags & FLAG_TYPE ? name(reader) : 'message';
  // How long to wait before reconnecting is this client's own decision, so a publisher's wish is read over.
  if (flags & FLAG_RETRY) safe(reader.varint());
  const topic = name(reader);
  const rest = reader.rest();
  // A copy, so that a receiver who keeps it doesn't keep the whole chunk that it came in.
  const data = flags & FLAG_BINARY ? rest.slice() : decodeUtf8(rest, 'EVENT');
  return { name: 'event', cursor: { epoch, seq }, prevSeq, at, topic, id, type, data };
}

/**
 * @param {Uint8Array} payload
 * @returns {unknown}
 * @throws {Malformed}
 */
export function parseJson(payload) {
  const text = decodeUtf8(payload, 'a control message');
  try {
    return JSON.parse(text);
  } catch {
    throw new Malformed('a control message that is no JSON');
  }
}

/**
 * Writes a request. [PROTOCOL §5.4]
 * @param {number} type below 64
 * @param {unknown} body
 */
export function writeFrame(type, body) {
  const payload = new TextEncoder().encode(JSON.stringify(body));
  const frame = new Uint8Array(5 + payload.length);
  // The length in four bytes, whatever it is.
  new DataView(frame.buffer).setUint32(1, (payload.length | 0x80000000) >>> 0);
  frame[0] = type;
  frame.set(payload, 5);
  return frame;
}

/** Reads fields from bytes, up to an end. */
class Reader {
  /** @param {Uint8Array} bytes @param {number} offset @param {number} end */
  constructor(bytes, offset, end) {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
  }

  /**
   * A QUIC variable-length integer. [RFC 9000 §16] Beyond 2^53 it is rounded: fine for a type that nobody knows.
   * @returns {number | null} null where the bytes end first
   */
  varint() {
    if (this.offset >= this.end) return null;
    const first = this.bytes[this.offset] ?? 0;
    const size = 1 << (first >> 6);
    if (this.offset + size > this.end) return null;
    let high = 0;
    let low = first & 0x3f;
    for (let i = 1; i < size; i++) {
      // Two halves, as shifts in JavaScript have 32 bits.
      if (i === 4) [high, low] = [low, 0];
      low = low * 256 + (this.bytes[this.offset + i] ?? 0);
    }
    this.offset += size;
    return high * 2 ** 32 + low;
  }

  /**
   * @param {number} length
   * @returns {Uint8Array | null} null where the bytes end first
   */
  take(length) {
    if (this.offset + length > this.end) return null;
    const taken = this.bytes.subarray(this.offset, this.offset + length);
    this.offset += length;
    return taken;
  }

  rest() {
    return this.bytes.subarray(this.offset, this.end);
  }
}

/** @param {number | null} value */
function safe(value) {
  if (value === null || !Number.isSafeInteger(value)) throw new Malformed('a number that is cut, or beyond 2^53 − 1');
  return value;
}

/** @param {Reader} reader */
function name(reader) {
  const bytes = reader.take(safe(reader.varint()));
  if (!bytes) throw new Malformed('an EVENT ends in the middle of a name');
  return decodeUtf8(bytes, 'EVENT');
}

/** @param {Uint8Array} bytes @param {string} what */
function decodeUtf8(bytes, what) {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new Malformed(`${what} whose text isn't UTF-8`);
  }
}

// Data may begin with U+FEFF, which a decoder would take for a mark of its own.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const FLAG_ID = 1;
const FLAG_TYPE = 2;
const FLAG_RETRY = 4;
const FLAG_BINARY = 8;
const BUFFER_BYTES_MIN = 4096;
/** @type {ReadonlyMap<number, string>} */
const CONTROL_NAMES = new Map([
  [FRAME.HELLO, 'hello'],
  [FRAME.GAP, 'gap'],
  [FRAME.CHANGED, 'changed'],
  [FRAME.PING, 'ping'],
  [FRAME.BYE, 'bye'],
]);
