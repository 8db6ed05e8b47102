// A feed as an async iterator, with a queue that is bounded and says when it overflowed. Loaded when one is asked for.

import { EARLY_MAX } from './fanwire.js';

/** @typedef {import('./fanwire.js').Fanwire} Fanwire */
/**
 * @typedef {object} IteratorOptions
 * @property {string[]} [types] of events; `message` only, unless they are given
 * @property {number} [queueMax] how many events may wait; 1,000. What doesn't fit is left out, and told as a gap
 */

/**
 * Gives MessageEvents, and where something is missing a CustomEvent `gap`: what the hub told, or with the reason `overflow` and
 * the same members what this queue had no room for. Ends when the feed is closed, and throws where it was ended for good.
 * @param {Fanwire} feed
 * @param {readonly string[]} heard types of events
 * @param {readonly any[]} early what came before this was loaded
 * @param {number} [queueMax]
 * @returns {AsyncGenerator<any, void, void>}
 */
export async function* iterate(feed, heard, early, queueMax = QUEUE_MAX) {
  /** @type {any[]} */
  const queue = [];
  /** What is left out at the end of the queue. @type {any} */
  let overflow = null;
  /** @type {any} */
  let failure = null;
  let wake = () => {};
  /** @param {any} detail */
  const leaveOut = ({ transport, from, to, cursor }) => {
    if (!overflow) queue.push((overflow = new CustomEvent('gap', { detail: { transport, reason: 'overflow', from } })));
    Object.assign(overflow.detail, { to, cursor });
  };
  /** @param {any} event */
  const onEvent = (event) => {
    if (isPlace(event)) {
      if (!overflow && queue.length < queueMax) queue.push(event);
      else leaveOut(placeOf(event));
    } else if (event.fanwire?.isTerminal) failure = new Error(event.fanwire.reason);
    wake();
  };
  for (const event of early) onEvent(event);
  const last = early.length === EARLY_MAX && early.findLast(isPlace);
  const newest = Number(feed.cursor?.split(':')[1]);
  if (last && newest > placeOf(last).to) {
    leaveOut({ transport: feed.transport, from: placeOf(last).to + 1, to: newest, cursor: feed.cursor });
    // There may be room behind it.
    overflow = null;
  }
  for (const type of heard) feed.addEventListener(type, onEvent);
  try {
    for (;;) {
      while (queue.length > 0) {
        const event = queue.shift();
        if (event === overflow) overflow = null;
        yield event;
      }
      if (failure) throw failure;
      if (feed.readyState === feed.CLOSED) return;
      await /** @type {Promise<void>} */ (new Promise((resolve) => (wake = resolve)));
    }
  } finally {
    for (const type of heard) feed.removeEventListener(type, onEvent);
  }
}

/** Somebody may publish events of these names, and they are also this client's own. @param {any} event */
function isPlace(event) {
  return event instanceof MessageEvent || event.type === 'gap';
}

/** Which numbers an event stands for. @param {any} event */
function placeOf({ fanwire, detail }) {
  const { transport, cursor, seq: from = detail?.from, seq: to = detail?.to } = fanwire ?? detail;
  return { transport, cursor, from, to };
}

const QUEUE_MAX = 1000;
