// A feed over Server-Sent Events, read with fetch: for tokens in headers, and for where there is no EventSource.

import { EVENT_STREAM, endOfResponse } from './refusal.js';
import { SseReader, sseUrl } from './sse.js';
import { reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').End} End */
/** @typedef {import('../message.js').Message} Message */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectSseFetch(request) {
  const { environment, withCredentials } = request;
  const aborter = new AbortController();
  let isOver = false;
  /** @type {unknown} */
  let timer;

  const close = () => {
    isOver = true;
    aborter.abort();
    environment.clearTimer(timer);
  };
  /** @param {End} end */
  const finish = (end) => {
    if (isOver) return;
    close();
    request.onEnd(end);
  };
  /** @type {import('../token.js').Tokens | undefined} */
  let tokens;
  /** @type {string | null} */
  let shown = null;
  /** @param {typeof globalThis.fetch} fetch */
  const ask = async (fetch) => {
    /** @type {Record<string, string>} */
    const headers = { Accept: EVENT_STREAM };
    // Where one was shown before, it wasn't taken.
    if (tokens) headers.Authorization = `Bearer ${(shown = await tokens.get(shown))}`;
    return fetch(sseUrl(request), {
      headers,
      credentials: withCredentials ? 'include' : 'same-origin',
      cache: 'no-store',
      signal: aborter.signal,
    });
  };
  const run = async () => {
    const { fetch } = environment;
    if (!fetch) return finish({ reason: 'neither EventSource nor fetch is available here', isTerminal: true });
    tokens = await request.tokens?.();
    let response = await ask(fetch);
    // The token may have expired, or its keys been changed: a new one is worth one more request.
    if (response.status === UNAUTHORIZED && tokens && !isOver) response = await ask(fetch);
    const isStream = response.headers.get('Content-Type')?.startsWith(EVENT_STREAM);
    if (response.status !== OK || !response.body || !isStream) return finish(await endOfResponse(response));
    const reader = new SseReader();
    /** @param {Iterable<Message>} messages */
    const give = (messages) => {
      for (const message of messages) if (!isOver) request.onMessage(message);
    };
    timer = environment.setTimer(() => give(reader.isPlain()), HELLO_WAIT_MS);
    const parser = new SseParser((event) => give(reader.read(event)));
    const stream = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await stream.read();
      if (isOver) return;
      if (done) break;
      parser.feed(value);
    }
    const retryMs = reader.hasBegun ? null : parser.retryMs;
    finish({ reason: 'the event stream was cut', retryMs });
  };
  run().catch((error) => finish({ reason: reasonOf(error) }));
  // Every type comes, whoever listens.
  return { close, listen() {} };
}

/** Cuts text into events, however it is split. [WHATWG HTML §9.2.6] */
export class SseParser {
  /** @param {(event: { type: string, data: string, lastEventId: string }) => void} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** What the stream asks to wait before the next attempt. @type {number | null} */
  retryMs = null;

  /** @param {string} text @throws where a line or an event is longer than allowed */
  feed(text) {
    // A line feed that follows a carriage return belongs to it, also in the next piece.
    if (this.#endsWithCr && text.startsWith('\n')) text = text.slice(1);
    if (text === '') return;
    this.#endsWithCr = text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = /** @type {string} */ (lines.pop());
    for (const line of lines) this.#line(line);
    if (this.#rest.length + this.#data.length > CHARS_MAX) throw new Error('an event is longer than allowed');
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'data') this.#data += `${value}\n`;
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#lastEventId = value;
    else if (field === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  #dispatch() {
    const [type, data] = [this.#type, this.#data];
    this.#type = this.#data = '';
    if (data === '') return;
    this.#onEvent({ type: type || 'message', data: data.slice(0, -1), lastEventId: this.#lastEventId });
  }

  #onEvent;
  #rest = '';
  #endsWithCr = false;
  #type = '';
  #data = '';
  #lastEventId = '';
}

const OK = 200;
const UNAUTHORIZED = 401;
/** As with EventSource. */
const HELLO_WAIT_MS = 3000;
const CHARS_MAX = 16 * 1024 * 1024;
