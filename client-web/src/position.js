// What a subscriber has had, and so what it must neither skip nor get twice. Pure.

import { formatCursor, parseControlId } from './cursor.js';
import { Malformed } from './message.js';

/** @typedef {import('./cursor.js').Cursor} Cursor */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */

/** A subscriber's place in the log, across connections and transports. */
export class Position {
  /** @param {string | null} startId where to begin: a cursor, a publisher's id or `earliest`; null where the hub is to say */
  constructor(startId) {
    this.#startId = startId;
    this.#cursor = parseControlId(startId ?? '')?.cursor ?? null;
  }

  /** How far the feed is complete; null before the first `hello`. */
  get cursor() {
    return this.#cursor;
  }

  /** What to come back with, as `last_event_id`; null where nothing is known yet. */
  get resumeId() {
    return this.#cursor && !this.#isUnproven ? formatCursor(this.#cursor) : this.#startId;
  }

  /**
   * A feed begins.
   * @param {Hello} hello
   * @param {string | null} asked the `last_event_id` that it was asked with, which may be older than this position
   * @returns {'joined' | 'beside'} `beside` where the feed starts past this position, or in another log, without its
   *   having been asked for this position: taking it would skip events, so ask again
   */
  start({ cursor, verdict }, asked) {
    const own = this.#cursor;
    const isCurrent = asked === this.resumeId;
    const isVoid = verdict === 'new_epoch' || verdict === 'unknown_cursor';
    // Where nothing has followed the last hello this one is as good.
    if (own && !(this.#isUnproven && isCurrent)) {
      const isAhead = own.epoch !== cursor.epoch || cursor.seq > own.seq;
      // Only a feed that begins gives no more than the newest.
      if (verdict === 'latest') return 'beside';
      // What it was asked with may be void where this position isn't: another connection was told already.
      if (!isAhead && !(isVoid && isCurrent)) return 'joined';
      if (!isVoid || !(isCurrent || own.epoch !== cursor.epoch)) return 'beside';
    }
    // Until something follows, a cut would make a loss a silent one. [PROTOCOL §3.1]
    this.#isUnproven = verdict === 'latest' || (asked !== null && asked !== formatCursor(cursor));
    this.#startId = asked;
    this.#gapIsDue = isVoid;
    // A log that lost its newest events keeps its name: what was delivered of it stays delivered.
    if (own?.epoch !== cursor.epoch) this.#deliveredSeq = 0;
    this.#cursor = cursor;
    return 'joined';
  }

  /**
   * An event came.
   * @param {FeedEvent} event
   * @returns {{ deliver: boolean, gap: Gap | null }} whether it is new; and a hole before it that the hub didn't tell
   * @throws {Malformed}
   */
  event({ cursor, prevSeq, id }) {
    if (!cursor) {
      // A hub without cursors: its ids are all there is to come back with.
      this.#startId = id ?? this.#startId;
      return { deliver: true, gap: null };
    }
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
   * @returns {Gap | null} what of it is news: another transport may have delivered some
   * @throws {Malformed}
   */
  gap(gap) {
    const own = this.#inFeed(gap.cursor);
    const isNews = this.#gapIsDue || gap.cursor.seq > own.seq;
    this.#gapIsDue = false;
    if (!isNews) return null;
    this.#cursor = gap.cursor;
    return gap.from === null ? gap : { ...gap, from: Math.max(gap.from, own.seq + 1) };
  }

  /**
   * The feed is complete up to a cursor.
   * @param {Cursor} watermark
   * @throws {Malformed}
   */
  ping(watermark) {
    if (watermark.seq > this.#inFeed(watermark).seq) this.#cursor = watermark;
  }

  /** The same, in the log that the feed is of. @param {number} seq */
  reach(seq) {
    if (this.#cursor) this.ping({ epoch: this.#cursor.epoch, seq });
  }

  /**
   * The own cursor, once it is sure that the other is of the same log: a log changes only with a `hello`.
   * @param {Cursor} cursor
   */
  #inFeed(cursor) {
    if (this.#cursor?.epoch !== cursor.epoch) throw new Malformed('a cursor of another log in the middle of a feed');
    this.#isUnproven = false;
    return this.#cursor;
  }

  /** @type {Cursor | null} */
  #cursor;
  /** What was asked for while there was no cursor to ask with, or the newest id of a hub without cursors. */
  #startId;
  /** Nothing has followed the hello that set the cursor. */
  #isUnproven = false;
  /** The newest event that was delivered; the cursor can be set back behind it, and delivery can't. */
  #deliveredSeq = 0;
  /** A `hello` said that the old position is void; the gap that says so formally is on its way. */
  #gapIsDue = false;
}
