// What of a feed is complete where its events come on several streams. Pure. [PROTOCOL §5.6]

import { Malformed } from '../frames.js';

/** @typedef {import('../cursor.js').Cursor} Cursor */
/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('../message.js').Hello} Hello */
/** @typedef {ReturnType<typeof import('../frames.js').readFrame>} Said */
/** @typedef {(message: Message, changed?: number) => boolean} Give `changed`: the request whose change holds from here */

/**
 * Joins streams by what each frame says comes before it. Events are given as they come; one that is ahead of something that is missing is `loose`. Everything
 * else waits for all that comes before it, and the end of the chain is told as a watermark.
 */
export class Chain {
  /** @param {Give} give says whether to go on */
  constructor(give) {
    this.#give = give;
  }

  /** Whether nothing more is wanted. */
  isOver = false;

  /** The log's name; null before the hello. */
  get epoch() {
    return this.#epoch;
  }

  /**
   * @param {NonNullable<Said>} message @param {number | null} prev what it says comes before it
   * @throws {Malformed}
   */
  take(message, prev) {
    if (message.name === 'hello') {
      if (this.#epoch !== null || !message.cursor) throw new Malformed('a second HELLO');
      this.#epoch = message.cursor.epoch;
      this.#end = message.cursor.seq;
      this.#tell(message);
    } else if (this.#epoch === null) {
      if (message.name !== 'bye') throw new Malformed('something comes before HELLO');
      this.#tell(message);
    } else if (message.name === 'event') this.#event(message);
    else if (prev !== null && prev > this.#end) {
      this.#need();
      this.#held.push([prev, message]);
    } else this.#pass(message, prev);
    for (let held; (held = this.#held[0]) && held[0] <= this.#end && !this.isOver; ) {
      this.#held.shift();
      this.#pass(held[1], held[0]);
    }
  }

  /** Whether anything waits. */
  get isHolding() {
    return this.#held.length > 0;
  }

  /** The bye, where the rest of what it waits for won't come any more. */
  lastWord() {
    const bye = this.#held.find(([, { name }]) => name === 'bye');
    if (bye && !this.isOver) this.#tell(/** @type {Message} */ (bye[1]));
  }

  /** @param {import('../frames.js').FrameEvent} event */
  #event(event) {
    const { prevSeq, cursor } = event;
    const { seq } = /** @type {Cursor} */ (cursor);
    if (seq <= prevSeq || prevSeq < this.#end || this.#links.has(prevSeq)) throw new Malformed('an event out of place');
    if (prevSeq === this.#end) {
      this.#tell(event);
      this.#advance(seq);
    } else {
      this.#need();
      this.#links.set(prevSeq, seq);
      this.#tell({ ...event, isLoose: true });
    }
  }

  /** @param {NonNullable<Said>} message @param {number | null} prev */
  #pass(message, prev) {
    if (message.name === 'changed') {
      // The feed has come to here, or further.
      this.#tell({ name: 'ping', watermark: this.#cursor(Math.max(message.fromSeq, this.#end)) }, message.requestId);
      return;
    }
    this.#tell(/** @type {Message} */ (message));
    if (message.name !== 'gap') return;
    // A gap that reaches no further than what comes before it is one before the feed's start.
    if (message.cursor.epoch !== this.#epoch || (prev !== message.cursor.seq && prev !== null && prev !== this.#end)) throw new Malformed('a gap out of place');
    if (prev !== message.cursor.seq) this.#advance(message.cursor.seq);
  }

  /** The chain is unbroken up to here, and as far as what is there already goes on from here. @param {number} seq */
  #advance(seq) {
    let end = seq;
    for (let next; (next = this.#links.get(end)) !== undefined; end = next) this.#links.delete(end);
    this.#end = end;
    if (end > seq) this.#tell({ name: 'ping', watermark: this.#cursor(end) });
  }

  /** @param {number} seq @returns {Cursor} */
  #cursor(seq) {
    return { epoch: /** @type {string} */ (this.#epoch), seq };
  }

  /** @param {Message} message @param {number} [changed] */
  #tell(message, changed) {
    if (!this.isOver) this.isOver = !this.#give(message, changed);
  }

  #need() {
    if (this.#links.size + this.#held.length >= AHEAD_MAX) throw new Malformed('too much comes ahead of something that is missing');
  }

  #give;
  /** @type {string | null} */
  #epoch = null;
  /** The last event or gap of the unbroken chain. */
  #end = 0;
  /** The events above it: what comes before each, and its number. @type {Map<number, number>} */
  #links = new Map();
  /** What waits for what comes before it. @type {[number, NonNullable<Said>][]} */
  #held = [];
}

/** A hub writes a quarter of it ahead of what it couldn't write. [PROTOCOL §5.6] */
export const AHEAD_MAX = 4096;
