// A feed over Server-Sent Events, read by the browser's own EventSource. [PROTOCOL §4.2]

import { parseControlId } from '../cursor.js';
import { Malformed, parseJson, readControl } from '../message.js';
import { feedQuery, reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').End} End */
/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('../message.js').FeedEvent} FeedEvent */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectSse(request) {
  const { environment, withCredentials } = request;
  const { EventSource } = environment;
  if (!EventSource) throw new Error('EventSource is not available here');
  const url = sseUrl(request);
  const source = new EventSource(url, { withCredentials });
  const reader = new SseReader();
  const aborter = new AbortController();
  /** @type {Set<string>} */
  const listened = new Set();
  let isOpen = false;
  let isOver = false;
  /** @type {unknown} */
  let timer;

  const close = () => {
    isOver = true;
    source.close();
    aborter.abort();
    environment.clearTimer(timer);
  };
  /** @param {End} end */
  const finish = (end) => {
    if (isOver) return;
    close();
    request.onEnd(end);
  };
  /** @param {() => Iterable<Message>} read */
  const give = (read) => {
    try {
      for (const message of isOver ? [] : read()) if (!isOver) request.onMessage(message);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      finish({ reason: reasonOf(error) });
    }
  };
  /** @param {Event} event */
  const onEvent = (event) => {
    // EventSource's own `open` and `error` have the names that a publisher may use as types; only events have data.
    if (isMessage(event)) give(() => reader.read(event));
  };
  /** @param {string} type */
  const listen = (type) => {
    if (listened.has(type)) return;
    listened.add(type);
    source.addEventListener(type, onEvent);
  };

  source.addEventListener('open', (event) => {
    if (isMessage(event)) return;
    isOpen = true;
    timer = environment.setTimer(() => give(() => reader.isPlain()), HELLO_WAIT_MS);
  });
  source.addEventListener('error', (event) => {
    if (isMessage(event) || isOver) return;
    const isRefused = source.readyState === CLOSED;
    // Closed even where EventSource would reconnect: it would do so without this client's cursor and backoff.
    source.close();
    environment.clearTimer(timer);
    if (reader.hasBegun || !(isRefused || isOpen)) finish({ reason: 'the event stream was cut or could not be opened' });
    // It was answered, and EventSource doesn't say how.
    else import('./refusal.js').then(({ askWhy }) => askWhy(url, request, aborter.signal)).catch((error) => ({ reason: reasonOf(error) })).then(finish);
  });
  for (const type of [CONTROL_TYPE, 'message', ...request.types]) listen(type);
  return { close, listen };
}

/** @param {Request} request */
export function sseUrl(request) {
  const url = new URL(request.url);
  const query = feedQuery(request);
  query.set('control', '1');
  url.search = query.toString();
  return url;
}

/** Makes messages of what an EventSource brings. */
export class SseReader {
  hasBegun = false;

  /** @param {{ type: string, data: string, lastEventId: string }} event @returns {Message[]} @throws {Malformed} */
  read({ type, data, lastEventId }) {
    /** @type {Message[]} */
    const messages = [];
    if (type === CONTROL_TYPE) {
      const body = parseJson(data);
      if (typeof body !== 'object' || body === null) throw new Malformed('a control message that is no object');
      for (const [name, content] of Object.entries(body)) {
        const message = readControl(name, content);
        if (message) messages.push(message);
      }
    } else {
      const event = readSseEvent({ type, data, lastEventId });
      if (this.hasBegun && !this.#isPlain && !event.cursor) throw new Malformed('an event without a cursor');
      // What another hub of the Mercure protocol has, or one behind something that takes the query away.
      if (!event.cursor) messages.push(...this.isPlain());
      messages.push(event);
    }
    this.hasBegun ||= messages.length > 0;
    return messages;
  }

  /** Says that this hub has no control messages, where it hasn't sent one. @returns {Message[]} */
  isPlain() {
    if (this.hasBegun) return [];
    this.hasBegun = this.#isPlain = true;
    return [{ name: 'plain' }];
  }

  #isPlain = false;
}

/**
 * @param {{ type: string, data: string, lastEventId: string }} event
 * @returns {FeedEvent}
 * @throws {Malformed}
 */
export function readSseEvent({ type, data, lastEventId }) {
  const id = parseControlId(lastEventId);
  if (!id) return { name: 'event', cursor: null, prevSeq: null, at: null, topic: null, id: lastEventId || null, type, data };
  return {
    name: 'event',
    cursor: id.cursor,
    prevSeq: null,
    at: id.at,
    topic: id.topic,
    id: id.id,
    type,
    data: id.binary ? base64Decoded(data) : data,
  };
}

/** @param {string} text */
function base64Decoded(text) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new Malformed('binary data that is no base64');
  }
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

/**
 * @param {Event} event
 * @returns {event is MessageEvent<string>}
 */
function isMessage(event) {
  return 'data' in event;
}

/** Nobody can publish this type. */
const CONTROL_TYPE = 'fanwire';
const CLOSED = 2;
/** A hub says hello together with its headers; one that is quiet for so long after them has no hello. */
const HELLO_WAIT_MS = 3000;
