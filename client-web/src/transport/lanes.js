// A feed on several streams, loaded where `delivery` is `per-topic`. [PROTOCOL §5.6]

import { FRAME, FrameDecoder, Malformed, readFrame } from '../frames.js';
import { Chain } from './chain.js';

/** @typedef {import('./chain.js').Give} Give */

/**
 * Reads a session's feed to its end.
 * @param {WebTransport} session that is ready
 * @param {Give} give says whether to go on
 * @returns {Promise<void>}
 * @throws {Malformed}
 */
export async function readSession(session, give) {
  const chain = new Chain(give);
  const streams = session.incomingUnidirectionalStreams.getReader();
  /** @type {() => void} */
  let begin = () => {};
  /** Lanes are read once the hello has come, and the gap behind it if there is one. */
  const begun = new Promise((resolve) => (begin = () => resolve(undefined)));
  /** @type {(error?: unknown) => void} */
  let end = () => {};
  const ended = new Promise((resolve, reject) => (end = (error) => (error === undefined ? resolve(undefined) : reject(error))));
  let hasFeed = false;
  let count = 0;

  /** @param {ReadableStream<Uint8Array>} stream */
  const read = async (stream) => {
    const decoder = new FrameDecoder();
    const reader = stream.getReader();
    let isLane = /** @type {boolean | null} */ (null);
    for (;;) {
      const { value: chunk, done } = await reader.read();
      if (done) break;
      decoder.feed(chunk);
      for (let frame = decoder.next(); frame; frame = decoder.next()) {
        if (isLane === null) {
          isLane = frame.type === LANE;
          if (isLane) {
            // What is left of the chunk is the decoder's, and stays.
            await begun;
            continue;
          }
          if (hasFeed) throw new Malformed('a second feed');
          hasFeed = true;
        }
        if (isLane && frame.type in CONTROLS) throw new Malformed('something else than an event beside the feed');
        const message = readFrame(frame, chain.epoch);
        if (!message) continue;
        chain.take(message, message.name === 'event' ? null : prevOf(frame.payload));
        if (chain.isOver) return end();
        if (message.name === 'gap' || (message.name === 'hello' && !IS_VOID.test(`${message.verdict}`))) begin();
      }
    }
    // The lanes may have something yet; what ends them all is the session.
    if (isLane === false && !chain.isHolding) end();
  };
  (async () => {
    for (;;) {
      const { value: stream, done } = await streams.read();
      if (done) return end();
      if (++count > STREAMS_MAX) throw new Malformed('a feed on more streams than it may have');
      read(stream).catch(end);
    }
  })().catch(end);
  try {
    await ended;
  } finally {
    chain.lastWord();
  }
}

/** @param {Uint8Array} payload of a control message */
function prevOf(payload) {
  const { prev_seq: prev } = JSON.parse(new TextDecoder().decode(payload)) ?? {};
  return Number.isSafeInteger(prev) ? prev : null;
}

/** A type of frame. [PROTOCOL §5.2] */
const LANE = 0x06;
const CONTROLS = { [FRAME.HELLO]: 1, [FRAME.GAP]: 1, [FRAME.CHANGED]: 1, [FRAME.PING]: 1, [FRAME.BYE]: 1 };
/** Verdicts behind which a gap comes. */
const IS_VOID = /^(new_epoch|unknown_cursor)$/;
/** The feed's own, 16 lanes, and some that a later hub may think of. */
const STREAMS_MAX = 64;
