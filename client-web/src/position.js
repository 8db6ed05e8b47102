// What a subscriber has had, and so what it must neither skip nor get twice. Pure.

import { formatCursor, parseControlId } from './cursor.js';

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

  /** Events that came again. */
  duplicates = 0;

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
   * @returns {boolean} false where the feed starts past this position, or in another log, without its having been asked for this
   *   position: taking it would skip events, so ask again
   * @throws where it was asked for this position
   */
  start({ cursor, verdict }, asked) {
    // A hub without cursors.
    if (!cursor) return true;
    const own = this.#cursor;
    const isCurrent = asked === this.resumeId;
    const isVoid = verdict === 'new_epoch' || verdict === 'unknown_cursor';
    const isOther = own?.epoch !== cursor.epoch;
    // Where nothing has followed the last hello this one is as good.
    if (own && !(this.#isUnproven && isCurrent)) {
      // Only a feed that begins gives no more than the newest.
      const isBehind = !isOther && cursor.seq <= own.seq && verdict !== 'latest';
      // What it was asked with may be void where this position isn't: another connection was told already.
      if (isBehind && !(isVoid && isCurrent)) return true;
      if (!isVoid || !(isCurrent || isOther)) {
        if (isCurrent) throw new Error('the hub began elsewhere');
        return false;
      }
    }
    // Until something follows, a cut would make a loss a silent one. [PROTOCOL §3.1]
    this.#isUnproven = verdict === 'latest' || (asked !== null && asked !== formatCursor(cursor));
    this.#startId = asked;
    this.#gapIsDue = isVoid;
    // A log that lost its newest events keeps its name: what was delivered of it stays delivered.
    if (isOther) this.#deliveredSeq = 0;
    this.#cursor = cursor;
    return true;
  }

  /**
   * An event came.
   * @param {FeedEvent} event
   * @returns {boolean} whether it is new
   * @throws where it is of another log
   */
  event({ cursor, id }) {
    if (!cursor) {
      // A hub without cursors: its ids are all there is to come back with.
      this.#startId = id ?? this.#startId;
      return true;
    }
    const isAhead = cursor.seq > this.#inFeed(cursor).seq;
    if (isAhead) this.#cursor = cursor;
    const isNew = isAhead && cursor.seq > this.#deliveredSeq;
    if (isNew) this.#deliveredSeq = cursor.seq;
    else this.duplicates++;
    return isNew;
  }

  /**
   * The hub told a loss.
   * @param {Gap} gap
   * @returns {Gap | null} what of it is news: another transport may have delivered some
   * @throws where it is of another log
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
   * @throws where it is of another log
   */
  ping(watermark) {
    if (watermark.seq > this.#inFeed(watermark).seq) this.#cursor = watermark;
  }

  /**
   * The own cursor, once it is sure that the other is of the same log: a log changes only with a `hello`.
   * @param {Cursor} cursor
   */
  #inFeed(cursor) {
    if (this.#cursor?.epoch !== cursor.epoch) throw new Error('a cursor of another log');
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
