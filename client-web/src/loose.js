// A position where events may come before what is older, loaded with what delivers so. Pure. [PROTOCOL §5.6, §5.7]

/** @typedef {import('./cursor.js').Cursor} Cursor */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./negotiation.js').Negotiation} Negotiation */
/** @typedef {import('./position.js').Position} Position */

/** From now on events may be loose. @param {Negotiation} negotiation */
export function loosen(negotiation) {
  const { position } = negotiation;
  if (!(position instanceof LoosePosition)) negotiation.position = /** @type {any} */ (new LoosePosition(negotiation));
}

/**
 * What a position is to a negotiation, with a memory of the events above its cursor: on another connection, which goes on at the cursor, they
 * come again.
 */
export class LoosePosition {
  /** @param {Negotiation} negotiation */
  constructor(negotiation) {
    this.#negotiation = negotiation;
    this.#own = negotiation.position;
  }

  get cursor() {
    return this.#own.cursor;
  }

  get resumeId() {
    return this.#own.resumeId;
  }

  get duplicates() {
    return this.#own.duplicates;
  }

  /** @type {Position['start']} */
  start(hello, asked) {
    const epoch = this.cursor?.epoch;
    const isTaken = this.#own.start(hello, asked);
    if (this.cursor?.epoch !== epoch) this.#ahead.clear();
    this.#floor = this.cursor?.seq ?? 0;
    return isTaken;
  }

  /** @param {FeedEvent} event */
  event(event) {
    const { cursor, isLoose } = event;
    if (!cursor) return this.#own.event(event);
    const { seq } = cursor;
    const wasHad = this.#ahead.has(seq);
    if (!isLoose) {
      const isNew = this.#own.event(event);
      if (isNew && wasHad) this.#own.duplicates++;
      this.#forget();
      return isNew && !wasHad;
    }
    const own = this.cursor;
    if (own?.epoch !== cursor.epoch) throw new Error('a cursor of another log');
    // Something has followed the hello.
    this.#own.ping(own);
    if (wasHad || seq <= this.#floor) {
      this.#own.duplicates++;
      return false;
    }
    if (seq > own.seq) {
      if (this.#ahead.size >= AHEAD_MAX) throw new Error('too much came ahead of something that is missing');
      this.#ahead.add(seq);
    }
    return true;
  }

  /** @param {Gap} gap */
  gap(gap) {
    const told = this.#own.gap(gap);
    if (!told || told.from === null) {
      this.#forget();
      return told;
    }
    // What was delivered of it isn't missing.
    /** @type {Gap[]} */
    const pieces = [];
    let { from } = told;
    for (const had of [...this.#ahead].filter((seq) => seq >= from && seq <= told.to).sort((a, b) => a - b).concat(told.to + 1)) {
      if (from < had) pieces.push({ ...told, from, to: had - 1 });
      from = had + 1;
    }
    this.#forget();
    const last = pieces.pop() ?? null;
    const { live, out } = this.#negotiation;
    if (live) for (const piece of pieces) out.push({ ...piece, transport: live });
    return last;
  }

  /** @param {Cursor} watermark */
  ping(watermark) {
    this.#own.ping(watermark);
    this.#forget();
  }

  #forget() {
    const seq = this.cursor?.seq ?? 0;
    for (const had of this.#ahead) if (had <= seq) this.#ahead.delete(had);
  }

  #negotiation;
  #own;
  /** Where the connection that delivers found this position: what is older was delivered before. */
  #floor = 0;
  /** What was delivered above the cursor. @type {Set<number>} */
  #ahead = new Set();
}

/** Twice what may be ahead on one connection: a hub sends what is missing before it goes further than it was. */
const AHEAD_MAX = 8192;
