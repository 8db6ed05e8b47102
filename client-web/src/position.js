// What a subscriber has had, and so what it must neither skip nor get twice. Pure.

import { Malformed } from './message.js';

/** @typedef {import('./cursor.js').Cursor} Cursor */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */

/** A subscriber's place in the log, across connections and transports. */
export class Position {
  /** @param {Cursor | null} cursor where to begin; null where the hub is to say */
  constructor(cursor) {
    this.#cursor = cursor;
  }

  /** The cursor to come back with; null before the first `hello`. */
  get cursor() {
    return this.#cursor;
  }

  /**
   * A feed begins.
   * @param {Hello} hello
   * @returns {'joined' | 'beside'} `beside` where the feed starts past this position, or in another log, without its
   *   having been asked for this position: taking it would skip events, so ask again with the cursor
   */
  start(hello) {
    const own = this.#cursor;
    if (!own) {
      this.#reset(hello.cursor);
      return 'joined';
    }
    const sameLog = own.epoch === hello.cursor.epoch;
    if (hello.verdict === 'new_epoch' && sameLog) return 'joined'; // Another connection was told already.
    if (hello.verdict === 'new_epoch' || hello.verdict === 'unknown_cursor') {
      this.#reset(hello.cursor);
      this.#gapIsDue = true;
      return 'joined';
    }
    return sameLog && hello.cursor.seq <= own.seq ? 'joined' : 'beside';
  }

  /**
   * An event came.
   * @param {FeedEvent} event
   * @returns {{ deliver: boolean, gap: Gap | null }} whether it is new; and a hole before it that the hub didn't tell
   * @throws {Malformed}
   */
  event({ cursor, prevSeq }) {
    const own = this.#inFeed(cursor);
    /** @type {Gap | null} */
    let gap = null;
    if (prevSeq !== null && prevSeq > own.seq) {
      gap = { name: 'gap', reason: 'unannounced', from: own.seq + 1, to: prevSeq, cursor: { epoch: own.epoch, seq: prevSeq } };
    }
    if (cursor.seq > own.seq) this.#cursor = cursor;
    const deliver = cursor.seq > own.seq && cursor.seq > this.#deliveredSeq;
    if (deliver) this.#deliveredSeq = cursor.seq;
    return { deliver, gap };
  }

  /**
   * The hub told a loss.
   * @param {Gap} gap
   * @returns {boolean} whether it is news
   * @throws {Malformed}
   */
  gap(gap) {
    const own = this.#inFeed(gap.cursor);
    const isNews = this.#gapIsDue || gap.cursor.seq > own.seq;
    this.#gapIsDue = false;
    if (isNews) this.#cursor = gap.cursor;
    return isNews;
  }

  /**
   * The feed is complete up to a cursor.
   * @param {Cursor} watermark
   * @throws {Malformed}
   */
  ping(watermark) {
    if (watermark.seq > this.#inFeed(watermark).seq) this.#cursor = watermark;
  }

  /** @param {Cursor} cursor */
  #reset(cursor) {
    // A log that lost its newest events keeps its name: what was delivered of it stays delivered.
    if (this.#cursor?.epoch !== cursor.epoch) this.#deliveredSeq = 0;
    this.#cursor = cursor;
  }

  /**
   * The own cursor, once it is sure that the other is of the same log: a log changes only with a `hello`.
   * @param {Cursor} cursor
   */
  #inFeed(cursor) {
    if (this.#cursor?.epoch !== cursor.epoch) throw new Malformed('a cursor of another log in the middle of a feed');
    return this.#cursor;
  }

  /** @type {Cursor | null} */
  #cursor;
  /** The newest event that was delivered; the cursor can be set back behind it, and delivery can't. */
  #deliveredSeq = 0;
  /** A `hello` said that the old position is void; the gap that says so formally is on its way. */
  #gapIsDue = false;
}
