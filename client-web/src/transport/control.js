// The control stream of a WebTransport session: requests, and their answers in any order. [PROTOCOL §5.4]

import { FRAME, FrameDecoder, writeFrame } from '../frames.js';
import { parseJson } from '../message.js';

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
  /** @param {WebTransport} session that is ready */
  constructor(session) {
    this.#session = session;
  }

  /**
   * @param {number} type of the frame
   * @param {Record<string, unknown>} body without its `request_id`
   * @returns {Promise<any>} what the answer has under `ok`, and the `request_id`
   * @throws {RequestError} or else what the session ended with
   */
  async request(type, body) {
    this.#writer ??= this.#open();
    const writer = await this.#writer;
    const id = ++this.#requests;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // The stream may fail before this is waited for.
    answer.catch(() => {});
    await writer.write(writeFrame(type, { request_id: id, ...body }));
    return answer;
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
        if (frame.type === FRAME.ANSWER) this.#answer(parseJson(new TextDecoder().decode(frame.payload)));
      }
    }
  }

  /** @param {any} answer */
  #answer(answer) {
    const { resolve, reject } = this.#waiting.get(answer?.request_id) ?? {};
    this.#waiting.delete(answer?.request_id);
    const { error, ok } = answer ?? {};
    if (error) reject?.(new RequestError(String(error.code), String(error.message)));
    else resolve?.({ ...ok, request_id: answer?.request_id });
  }

  #session;
  /** @type {Promise<WritableStreamDefaultWriter<Uint8Array>> | null} */
  #writer = null;
  #requests = 0;
  /** @type {Map<number, { resolve: (ok: any) => void, reject: (error: unknown) => void }>} */
  #waiting = new Map();
}
