// A feed as an async iterator, with a queue that is bounded and says when it overflowed.

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
 * @param {IteratorOptions} [options]
 * @returns {AsyncGenerator<any, void, void>}
 */
export function iterate(feed, { types = ['message'], queueMax = QUEUE_MAX } = {}) {
  /** @type {any[]} */
  const queue = [];
  /** What is left out at the end of the queue. @type {any} */
  let overflow = null;
  /** @type {any} */
  let failure = null;
  let wake = () => {};
  /** @param {any} event */
  const onEvent = (event) => {
    // Somebody may publish events of these names, and they are also this client's own.
    if (event instanceof MessageEvent || event.type === 'gap') {
      const { cursor, transport, seq: from = event.detail?.from, seq: to = event.detail?.to } = event.fanwire ?? event.detail;
      if (!overflow && queue.length < queueMax) queue.push(event);
      else {
        if (!overflow) queue.push((overflow = new CustomEvent('gap', { detail: { transport, reason: 'overflow', from } })));
        Object.assign(overflow.detail, { to, cursor });
      }
    } else if (event.fanwire?.isTerminal) failure = new Error(event.fanwire.reason);
    wake();
  };
  const heard = new Set([...types, 'gap', 'error', 'state']);
  for (const type of heard) feed.addEventListener(type, onEvent);
  const give = async function* () {
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
  };
  return give();
}

const QUEUE_MAX = 1000;
