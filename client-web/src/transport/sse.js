// A feed over Server-Sent Events, read by the browser's own EventSource. [PROTOCOL §4.2]

import { parseControlId } from '../cursor.js';
import { Malformed, parseJson, readControl } from '../message.js';
import { feedQuery, reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('../message.js').FeedEvent} FeedEvent */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectSse(request) {
  const { EventSource } = request.environment;
  if (!EventSource) throw new Error('EventSource is not available here');
  const query = feedQuery(request);
  query.set('control', '1');
  const url = new URL(request.url);
  url.search = query.toString();

  const source = new EventSource(url, { withCredentials: request.withCredentials });
  /** @type {Set<string>} */
  const listened = new Set();
  let isOver = false;

  const close = () => {
    isOver = true;
    source.close();
  };
  /** @param {import('./transport.js').End} end */
  const finish = (end) => {
    if (isOver) return;
    close();
    request.onEnd(end);
  };
  /** @param {() => void} step */
  const guarded = (step) => {
    if (isOver) return;
    try {
      step();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      finish({ reason: reasonOf(error) });
    }
  };
  /** @param {Event} event */
  const onEvent = (event) => {
    // EventSource's own `open` and `error` have the names that a publisher may use as types; only events have data.
    if (!(isMessage(event))) return;
    guarded(() => request.onMessage(readSseEvent(event)));
  };
  /** @param {string} type */
  const listen = (type) => {
    if (type === CONTROL_TYPE || listened.has(type)) return;
    listened.add(type);
    source.addEventListener(type, onEvent);
  };

  source.addEventListener(CONTROL_TYPE, (event) => {
    guarded(() => {
      const body = parseJson(event.data);
      if (typeof body !== 'object' || body === null) throw new Malformed('a control message that is no object');
      for (const [name, content] of Object.entries(body)) {
        const message = readControl(name, content);
        if (message && !isOver) request.onMessage(message);
      }
    });
  });
  source.addEventListener('error', (event) => {
    if (isMessage(event)) return;
    // Closed even where EventSource would reconnect: it would do so without this client's cursor and backoff.
    const refused = source.readyState === CLOSED;
    finish({ reason: refused ? 'the hub refused the event stream' : 'the event stream was cut or could not be opened' });
  });
  listen('message');
  for (const type of request.types) listen(type);
  return { close, listen };
}

/**
 * @param {MessageEvent} event
 * @returns {FeedEvent}
 * @throws {Malformed}
 */
export function readSseEvent({ type, data, lastEventId }) {
  const id = parseControlId(lastEventId);
  if (!id) throw new Malformed('an event without a cursor: the hub does not know control=1');
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
