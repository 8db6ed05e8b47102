// A feed over Server-Sent Events, read by the browser's own EventSource. [PROTOCOL §4.2]

import { parseControlId } from '../cursor.js';
import { readControl } from '../message.js';
import { feedUrl, reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').End} End */
/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('../message.js').FeedEvent} FeedEvent */
/** @typedef {{ type: string, data: string, lastEventId: string }} SseEvent */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectSse(request) {
  const { environment, withCredentials } = request;
  const url = sseUrl(request);
  const source = new /** @type {typeof EventSource} */ (environment.EventSource)(url, { withCredentials });
  const reader = new SseReader();
  const aborter = new AbortController();
  /** Runs once the stream is open. @type {unknown} */
  let timer;

  const close = () => {
    source.close();
    aborter.abort();
    environment.clearTimer(timer);
  };
  /** @param {End} end */
  const finish = (end) => {
    if (aborter.signal.aborted) return;
    close();
    request.onEnd(end);
  };
  /** @param {() => Iterable<Message>} read */
  const give = (read) => {
    if (aborter.signal.aborted) return;
    try {
      for (const message of read()) if (!aborter.signal.aborted) request.onMessage(message);
    } catch (error) {
      finish({ reason: reasonOf(error) });
    }
  };
  /** @param {Event} event */
  const onEvent = (event) => {
    // EventSource's own `open` and `error` have the names that a publisher may use as types; only events have data.
    if (isMessage(event)) give(() => reader.read(event));
  };
  // Once each: a listener that is added again stays one.
  /** @param {string} type */
  const listen = (type) => source.addEventListener(type, onEvent);

  source.addEventListener('open', (event) => {
    if (isMessage(event)) return;
    timer = environment.setTimer(() => give(() => reader.isPlain()), HELLO_WAIT_MS);
  });
  source.addEventListener('error', (event) => {
    if (isMessage(event)) return;
    const isAnswered = timer !== undefined || source.readyState === CLOSED;
    // Closed even where EventSource would reconnect: it would do so without this client's cursor and backoff.
    source.close();
    environment.clearTimer(timer);
    if (reader.hasBegun || !isAnswered) finish({ reason: 'the event stream was cut' });
    // EventSource doesn't say how it was answered.
    else import('./refusal.js').then(({ askWhy }) => askWhy(url, request, aborter.signal)).catch((error) => ({ reason: reasonOf(error) })).then(finish);
  });
  for (const type of [CONTROL_TYPE, ...request.types]) listen(type);
  return { close, listen };
}

/** @param {Request} request */
export function sseUrl(request) {
  const url = feedUrl(request);
  url.searchParams.set('control', '1');
  return url;
}

/** Makes messages of what an EventSource brings. */
export class SseReader {
  hasBegun = false;

  /** @param {SseEvent} event @returns {Message[]} @throws where it makes no sense */
  read(event) {
    /** @type {Message[]} */
    let messages;
    if (event.type === CONTROL_TYPE) {
      messages = Object.entries(/** @type {{}} */ (JSON.parse(event.data))).flatMap(([name, body]) => readControl(name, body) ?? []);
    } else {
      const message = readSseEvent(event);
      // What another hub of the Mercure protocol has, or one behind something that takes the query away.
      messages = message.cursor ? [message] : [...this.isPlain(), message];
    }
    this.hasBegun = true;
    return messages;
  }

  /** Says that this hub has no control messages, where it hasn't sent one. @returns {Message[]} */
  isPlain() {
    if (this.hasBegun) return [];
    this.hasBegun = true;
    return [{ name: 'hello', cursor: null, verdict: null, heartbeatMs: null }];
  }
}

/**
 * @param {SseEvent} event
 * @returns {FeedEvent}
 * @throws where binary data is no base64
 */
export function readSseEvent({ type, data, lastEventId }) {
  const { binary, ...id } = parseControlId(lastEventId) ?? { binary: false, cursor: null, at: null, topic: null, id: lastEventId || null };
  return { name: 'event', ...id, type, data: binary ? Uint8Array.from(atob(data), (char) => char.charCodeAt(0)) : data };
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
