// The control stream of a WebTransport session: requests, and their answers in any order. [PROTOCOL §5.4]

import { FRAME, FrameDecoder, parseJson, writeFrame } from '../frames.js';

/** The hub refused a request. */
export class RequestError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = 'RequestError';
    /** Stable, for programs. [PROTOCOL §2.3] */
    this.code = code;
  }
}

export class ControlStream {
  /** @param {WebTransport} session that is ready @param {(expiresAtMs: number) => void} onExpiry until when a token that was shown holds */
  constructor(session, onExpiry) {
    this.#session = session;
    this.#onExpiry = onExpiry;
  }

  /**
   * Asks, and waits for the answer; where a change is asked for, also until it shows in the feed, since it holds from there.
   * @param {number} type of the frame
   * @param {Record<string, unknown>} body without its `request_id`
   * @returns {Promise<void>}
   * @throws {RequestError} or else what the session ended with
   */
  async request(type, body) {
    this.#writer ??= this.#open();
    const writer = await this.#writer;
    const id = ++this.#requests;
    const done = /** @type {Promise<void>} */ (new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject, answer: null, isShown: !CHANGES.has(type) })));
    // The stream may fail before this is waited for.
    done.catch(() => {});
    await writer.write(writeFrame(type, { request_id: id, ...body }));
    return done;
  }

  /** The change that was asked for shows in the feed. @param {number} id */
  shows(id) {
    const request = this.#waiting.get(id);
    if (!request) return;
    request.isShown = true;
    this.#settle(id, request);
  }

  async #open() {
    const { readable, writable } = await this.#session.createBidirectionalStream();
    this.#read(readable).catch((error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    return writable.getWriter();
  }

  /** @param {ReadableStream<Uint8Array>} stream */
  async #read(stream) {
    const decoder = new FrameDecoder();
    const reader = stream.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error('the control stream ended');
      decoder.feed(value);
      for (let frame = decoder.next(); frame; frame = decoder.next()) {
        if (frame.type !== FRAME.ANSWER) continue;
        const answer = /** @type {any} */ (parseJson(frame.payload));
        const request = this.#waiting.get(answer?.request_id);
        if (!request) continue;
        request.answer = answer;
        this.#settle(answer.request_id, request);
      }
    }
  }

  /** @param {number} id @param {Waiting} request */
  #settle(id, { resolve, reject, answer, isShown }) {
    if (!answer || !(isShown || answer.error)) return;
    this.#waiting.delete(id);
    const { error, ok } = answer;
    if (error) reject(new RequestError(String(error.code), String(error.message)));
    else resolve();
    if (typeof ok?.expires_at_ms === 'number') this.#onExpiry(ok.expires_at_ms);
  }

  #session;
  #onExpiry;
  /** @type {Promise<WritableStreamDefaultWriter<Uint8Array>> | null} */
  #writer = null;
  #requests = 0;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map();
}

/** @typedef {{ resolve: () => void, reject: (error: unknown) => void, answer: any, isShown: boolean }} Waiting */

/** @type {ReadonlySet<number>} */
const CHANGES = new Set([FRAME.SUBSCRIBE, FRAME.UNSUBSCRIBE]);
