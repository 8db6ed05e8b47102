// Whether a page got what it should. Pure.

/** @typedef {import('./publisher.js').Published} Published */
/**
 * What a page saw, in order: one of these members each.
 * @typedef {object} Entry
 * @property {{ cursor: string }} [hello]
 * @property {{ n: number, cursor: string }} [event]
 * @property {{ reason: string, from: number | null, to: number | null, cursor: string }} [gap]
 */
/**
 * @typedef {object} Verdict
 * @property {string[]} faults what is wrong, and nothing else may be; a few of each kind
 * @property {number} delivered
 * @property {number[]} missing numbers that the page didn't get
 * @property {string[]} gaps the reason of each
 */

/**
 * Holds a page's story against what was published. Right is: every number from the first hello on, once and in order; and what
 * is missing lies in a gap, in which nothing lies that was delivered.
 * @param {readonly Published[]} published in the order of the log, numbers rising
 * @param {readonly Entry[]} story
 * @returns {Verdict}
 */
export function judge(published, story) {
  const log = new Log(published);
  /** @type {string[]} */
  const faults = [];
  /** @type {Map<number, string>} */
  const delivered = new Map();
  /** @type {((cursor: string) => boolean)[]} */
  const gapHolds = [];
  /** @type {string[]} */
  const gaps = [];
  /** @type {string | null} */
  let start = null;
  /** How far the page is: what it got last, or was told of last. @type {string | null} */
  let position = null;
  for (const { hello, event, gap } of story) {
    if (hello) {
      start ??= hello.cursor;
      position ??= hello.cursor;
    }
    if (event) {
      const { n, cursor } = event;
      const known = log.get(n);
      if (start === null) faults.push(`${n} came before the first hello`);
      if (!known) faults.push(`${n} was never published`);
      else if (known.cursor !== null && known.cursor !== cursor) faults.push(`${n} came as ${cursor}, and is ${known.cursor}`);
      if (delivered.has(n)) faults.push(`${n} came twice`);
      else if (position !== null && log.compare(cursor, position) <= 0) faults.push(`${n} came at ${cursor}, after ${position}`);
      delivered.set(n, cursor);
      position = cursor;
    }
    if (gap) {
      gaps.push(gap.reason);
      gapHolds.push(log.within(gap, position ?? gap.cursor));
      position = gap.cursor;
    }
  }

  for (const [n, cursor] of delivered) {
    if (gapHolds.some((holds) => holds(cursor))) faults.push(`${n} came, and is in a gap`);
  }
  const expected = published.filter(({ cursor }) => cursor !== null && start !== null && log.compare(cursor, start) > 0);
  const missing = expected.filter(({ n }) => !delivered.has(n));
  for (const { n, cursor } of missing) {
    if (!gapHolds.some((holds) => holds(/** @type {string} */ (cursor)))) faults.push(`${n} is missing, and no gap tells it`);
  }
  if (expected.length === 0) faults.push('nothing was published since the first hello');
  return { faults: shortened(faults), delivered: delivered.size, missing: missing.map(({ n }) => n), gaps };
}

/** The order of what was published: logs in their order, and in each its numbers. */
class Log {
  /** @param {readonly Published[]} published */
  constructor(published) {
    for (const entry of published) {
      this.#entries.set(entry.n, entry);
      if (entry.cursor !== null) this.#epochs.add(parse(entry.cursor).epoch);
    }
  }

  /** @param {number} n */
  get(n) {
    return this.#entries.get(n);
  }

  /** @param {string} a @param {string} b @returns {number} below 0 where `a` is first */
  compare(a, b) {
    const [one, other] = [parse(a), parse(b)];
    return this.#rank(one.epoch) - this.#rank(other.epoch) || one.seq - other.seq;
  }

  /**
   * Which cursors a gap holds. [PROTOCOL §3.2]
   * @param {NonNullable<Entry['gap']>} gap
   * @param {string} position where the page was when it was told
   * @returns {(cursor: string) => boolean}
   */
  within({ from, to, cursor: end }, position) {
    if (from === null || from === undefined) return (cursor) => this.compare(cursor, position) > 0 && this.compare(cursor, end) <= 0;
    const { epoch } = parse(end);
    return (cursor) => {
      const place = parse(cursor);
      return place.epoch === epoch && place.seq >= from && place.seq <= (to ?? from);
    };
  }

  /** A log of which nothing is known to be published is the oldest, as the one before the first event. @param {string} epoch */
  #rank(epoch) {
    return [...this.#epochs].indexOf(epoch);
  }

  /** @type {Map<number, Published>} */
  #entries = new Map();
  /** In the order of the logs. @type {Set<string>} */
  #epochs = new Set();
}

/** @param {string} cursor `#epoch:seq` */
function parse(cursor) {
  const [, epoch, seq] = /^#([0-9a-v]+):(\d+)$/.exec(cursor) ?? [];
  if (!epoch) throw new Error(`not a cursor: ${cursor}`);
  return { epoch, seq: Number(seq) };
}

/** @param {string[]} faults */
function shortened(faults) {
  return faults.length <= FAULTS_MAX ? faults : [...faults.slice(0, FAULTS_MAX), `and ${faults.length - FAULTS_MAX} more`];
}

const FAULTS_MAX = 12;
