// What a hub says in a WebTransport session: its first unidirectional stream. [PROTOCOL §5]

import { FrameDecoder, Malformed, readFrame } from '../frames.js';

/** @typedef {import('../cursor.js').Cursor} Cursor */
/** @typedef {import('../message.js').Message} Message */

/**
 * Reads a session's feed to its end.
 * @param {WebTransport} session that is ready
 * @param {(message: Message, changed?: number) => boolean} onMessage says whether to go on; `changed`: the request whose change holds from here
 * @returns {Promise<void>}
 */
export async function readSession(session, onMessage) {
  const { value: stream } = await session.incomingUnidirectionalStreams.getReader().read();
  if (!stream) throw new Error('the session ended before its feed began');
  await readFeed(stream, onMessage);
}

/**
 * Reads a stream to its end, and gives what any transport gives: a change as the progress that it is, and a hole that the hub didn't
 * tell as a gap.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {(message: Message, changed?: number) => boolean} onMessage
 * @returns {Promise<void>}
 * @throws {Malformed}
 */
export async function readFeed(stream, onMessage) {
  const decoder = new FrameDecoder();
  const reader = stream.getReader();
  /** How far this stream is complete. */
  let place = /** @type {Cursor | null} */ (null);
  /** @param {Message} message @param {number} [changed] */
  const give = (message, changed) => {
    const cursor = message.name === 'ping' ? message.watermark : message.name === 'bye' ? null : message.cursor;
    // A gap may be where a feed enters a new log.
    if (cursor && (cursor.epoch !== place?.epoch || cursor.seq > place.seq || message.name === 'hello')) place = cursor;
    return onMessage(message, changed);
  };
  for (;;) {
    const { value: chunk, done } = await reader.read();
    if (done) return;
    decoder.feed(chunk);
    for (let frame = decoder.next(); frame; frame = decoder.next()) {
      const message = readFrame(frame, place && place.epoch);
      if (!message) continue;
      if (message.name === 'changed') {
        if (!place) throw new Malformed('a change before hello');
        if (!give({ name: 'ping', watermark: { epoch: place.epoch, seq: message.fromSeq } }, message.requestId)) return;
        continue;
      }
      if (message.name === 'event' && place && message.prevSeq > place.seq) {
        const to = message.prevSeq;
        if (!give({ name: 'gap', reason: 'unannounced', from: place.seq + 1, to, cursor: { epoch: place.epoch, seq: to } })) return;
      }
      if (!give(message)) return;
    }
  }
}
