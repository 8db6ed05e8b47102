// A feed on a stream and in datagrams beside it, loaded where `delivery` is `datagram`. [PROTOCOL §5.7]

import { FRAME, FrameDecoder, Malformed, readFrame } from '../frames.js';

/** @typedef {import('../cursor.js').Cursor} Cursor */
/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('./chain.js').Give} Give */

/**
 * Reads a session's feed to its end.
 * @param {WebTransport} session that is ready
 * @param {Give} give says whether to go on
 * @returns {Promise<void>}
 * @throws {Malformed}
 */
export async function readSession(session, give) {
  const newest = new Newest(give);
  /** Datagrams that came before history was through. @type {Uint8Array[] | null} */
  let early = [];
  /** @type {(error?: unknown) => void} */
  let end = () => {};
  const ended = new Promise((resolve, reject) => (end = (error) => (error === undefined ? resolve(undefined) : reject(error))));

  /** @param {Uint8Array} datagram */
  const take = (datagram) => {
    const decoder = new FrameDecoder();
    decoder.feed(datagram);
    for (let frame = decoder.next(); frame; frame = decoder.next()) {
      if (frame.type === FRAME.EVENT) newest.take(readFrame(frame, newest.epoch));
    }
    if (!decoder.isEmpty) throw new Malformed('a datagram ends inside a frame');
    if (newest.isOver) end();
  };
  const readDatagrams = async () => {
    const { datagrams } = session;
    // Browsers keep one otherwise, and a burst is more.
    datagrams.incomingHighWaterMark = EARLY_MAX;
    const reader = datagrams.readable.getReader();
    for (;;) {
      const { value: datagram, done } = await reader.read();
      if (done) return;
      if (!early) take(datagram);
      else if (early.push(datagram) > EARLY_MAX) early.shift();
    }
  };
  const readStream = async () => {
    const { value: stream } = await session.incomingUnidirectionalStreams.getReader().read();
    if (!stream) throw new Error('the session ended before its feed began');
    const decoder = new FrameDecoder();
    const reader = stream.getReader();
    for (;;) {
      const { value: chunk, done } = await reader.read();
      if (done) return end();
      decoder.feed(chunk);
      for (let frame = decoder.next(); frame; frame = decoder.next()) {
        const message = readFrame(frame, newest.epoch);
        newest.take(message);
        if (newest.isOver) return end();
        if (message?.name === 'ping' && early) {
          const waiting = early;
          early = null;
          waiting.forEach(take);
        }
      }
    }
  };
  readStream().catch(end);
  readDatagrams().catch(end);
  await ended;
}

/** Drops what is older than what was given of its topic. */
export class Newest {
  /** @param {Give} give says whether to go on */
  constructor(give) {
    this.#give = give;
  }

  /** Whether nothing more is wanted. */
  isOver = false;

  /** The log's name; null before the hello. */
  get epoch() {
    return this.#place && this.#place.epoch;
  }

  /** @param {ReturnType<typeof readFrame>} message */
  take(message) {
    if (!message || this.isOver) return;
    if (message.name === 'hello') this.#place = message.cursor;
    else if (message.name === 'event') {
      const { seq } = /** @type {Cursor} */ (message.cursor);
      if (!this.#note(`${message.topic}`, seq)) return;
      // What comes late is handed on, and moves nothing.
      this.#tell(seq > this.#seq ? message : { ...message, isLoose: true });
      this.#reach(message.cursor);
      return;
    }
    if (message.name === 'changed') {
      const { epoch } = this;
      if (epoch === null) throw new Malformed('a change before hello');
      this.#tell({ name: 'ping', watermark: { epoch, seq: this.#seq } }, message.requestId);
      return;
    }
    this.#tell(message);
    if (message.name === 'gap') this.#reach(message.cursor);
    if (message.name === 'ping') this.#reach(message.watermark);
  }

  /** Whether it is the newest of its topic, as far as is known. @param {string} topic @param {number} seq */
  #note(topic, seq) {
    if (seq <= (this.#topics.get(topic) ?? this.#forgotten)) return false;
    // In the order in which they were heard of last.
    this.#topics.delete(topic);
    this.#topics.set(topic, seq);
    for (const [oldest, was] of this.#topics) {
      if (this.#topics.size <= TOPICS_MAX) break;
      this.#topics.delete(oldest);
      this.#forgotten = Math.max(this.#forgotten, was);
    }
    return true;
  }

  get #seq() {
    return this.#place?.seq ?? 0;
  }

  /** @param {Cursor | null} cursor */
  #reach(cursor) {
    if (cursor && cursor.seq > this.#seq) this.#place = cursor;
  }

  /** @param {Message} message @param {number} [changed] */
  #tell(message, changed) {
    this.isOver = !this.#give(message, changed);
  }

  #give;
  /** The newest thing that came. @type {Cursor | null} */
  #place = null;
  /** The newest event of each of the topics that were heard of last. @type {Map<string, number>} */
  #topics = new Map();
  /** The newest event of those that aren't among them any more. */
  #forgotten = 0;
}

/** The most topics whose newest event is remembered. [PROTOCOL §5.7] */
export const TOPICS_MAX = 1024;
/** The most datagrams that wait for the end of history, or to be read. */
const EARLY_MAX = 1024;
