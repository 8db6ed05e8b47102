// A feed over WebTransport: the hub's first unidirectional stream. [PROTOCOL §5]

import { askForOffer, readOffer } from '../discovery.js';
import { FRAME, FrameDecoder, readFrame } from '../frames.js';
import { Malformed } from '../message.js';
import { ControlStream } from './control.js';
import { feedQuery, reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').End} End */
/** @typedef {import('../message.js').Message} Message */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectWebTransport(request) {
  const aborter = new AbortController();
  /** @type {WebTransport | null} */
  let session = null;
  /** @type {ControlStream | null} */
  let control = null;
  let isReady = false;
  let isOver = false;

  const closeSession = () => {
    try {
      session?.close({ closeCode: 0, reason: '' });
    } catch {
      // It was closed already.
    }
  };
  /** @param {import('./transport.js').Closing} [how] */
  const close = ({ pageRests = false } = {}) => {
    isOver = true;
    aborter.abort();
    // Firefox lets go of a session that is closed before it is ready, and the hub keeps it: such a one is closed once it is
    // ready. Only Chromium has pages with one rest, and there nobody would be told that it is ready.
    if (isReady || pageRests) closeSession();
  };
  /** @param {End} end */
  const finish = (end) => {
    if (isOver) return;
    close();
    request.onEnd(end);
  };

  /** Whether another token was asked for, in the place of one that the hub refused. */
  let isAsking = false;
  /** @param {string} refused @param {string} reason */
  const askAgain = async (refused, reason) => {
    isAsking = true;
    // The next attempt shows what is given now. Where that is the same there is no use in one.
    const given = await request.token?.(refused).catch(() => refused);
    finish({ reason, code: UNAUTHORIZED, isTerminal: given === refused });
  };

  const run = async () => {
    const { WebTransport } = request.environment;
    if (!WebTransport) throw new Error('WebTransport is not available here');
    const endpoint = await findEndpoint(request, aborter.signal);
    const token = await request.token?.(null);
    if (isOver) return;
    const query = feedQuery(request);
    // A browser sends no header with it, and a URL is written down in too many places.
    if (token !== undefined) query.set('auth', 'inband');
    // It sends no cookies either: better no feed than one without what they let the page see.
    else if (request.withCredentials) query.set('auth', 'required');
    endpoint.url.search = query.toString();
    const hashes = endpoint.certificateHashes;
    session = new WebTransport(endpoint.url.href, hashes ? { serverCertificateHashes: hashes } : {});
    // Both reject when a session fails, and an unhandled one is an error on the application's page.
    session.closed.then(
      // A moment for what the feed still holds: the reason of a close comes there first, as BYE.
      (info) => request.environment.setTimer(() => isAsking || finish(endOf(info)), CLOSE_GRACE_MS),
      (error) => isAsking || finish({ reason: reasonOf(error) }),
    );
    await session.ready;
    isReady = true;
    if (isOver) {
      closeSession();
      return;
    }
    control = new ControlStream(session);
    if (token !== undefined) authorize(control, token, request);
    const streams = session.incomingUnidirectionalStreams.getReader();
    const { value: feed } = await streams.read();
    if (!feed) throw new Error('the session ended before its feed began');
    await readFeed(feed, (message) => {
      const isRefused = message.name === 'bye' && message.code === UNAUTHORIZED && token !== undefined;
      if (isRefused) askAgain(token, message.reason);
      else if (!isOver) request.onMessage(message);
      return !isOver && !isRefused;
    });
    if (isOver || isAsking) return;
    throw new Error('the feed ended');
  };
  run().catch((error) => {
    const end = { reason: reasonOf(error) };
    // A session's end fails its streams too; what `closed` says of it is worth a moment.
    if (session && !(error instanceof Malformed)) request.environment.setTimer(() => isAsking || finish(end), 2 * CLOSE_GRACE_MS);
    else finish(end);
  });
  // Every type comes over this stream, whoever listens.
  return {
    close,
    listen() {},
    async request(type, body) {
      if (!control) throw new Error('the session is not ready');
      const ok = await control.request(type, body);
      if (type === FRAME.AUTH) tellExpiry(ok, request);
      return ok;
    },
  };
}

/** Shows the token. Why it is refused comes as the feed's BYE. @param {ControlStream} control @param {string} token @param {Request} request */
function authorize(control, token, request) {
  control.request(FRAME.AUTH, { token }).then((ok) => tellExpiry(ok, request), () => {});
}

/** @param {any} ok @param {Request} request */
function tellExpiry({ expires_at_ms: expiresAtMs }, request) {
  if (typeof expiresAtMs === 'number') request.onExpiry(expiresAtMs);
}

/** @param {Request} request @param {AbortSignal} signal */
async function findEndpoint({ url, environment, offer, onOffer }, signal) {
  if (offer) {
    try {
      return readOffer(offer, url);
    } catch {
      // Somebody else wrote it.
    }
  }
  const fresh = await askForOffer(url, environment, signal);
  onOffer(fresh);
  return readOffer(fresh, url);
}

/**
 * Reads a feed to its end.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {(message: Message) => boolean} onMessage says whether to go on
 * @returns {Promise<void>}
 * @throws {import('../message.js').Malformed}
 */
export async function readFeed(stream, onMessage) {
  const decoder = new FrameDecoder();
  const reader = stream.getReader();
  /** @type {string | null} */
  let epoch = null;
  for (;;) {
    const { value: chunk, done } = await reader.read();
    if (done) return;
    decoder.feed(chunk);
    for (let frame = decoder.next(); frame; frame = decoder.next()) {
      const message = readFrame(frame, epoch);
      if (!message) continue;
      if (message.name === 'hello') epoch = message.cursor.epoch;
      // A gap may be where a feed enters a new log.
      if (message.name === 'gap') epoch = message.cursor.epoch;
      if (!onMessage(message)) return;
    }
  }
}

/**
 * What a close capsule says, for where BYE didn't come through.
 * @param {WebTransportCloseInfo | undefined} info
 * @returns {End}
 */
function endOf(info) {
  const code = info?.closeCode ?? 0;
  const reason = info?.reason || 'the session was closed';
  return { reason, code, isTerminal: TERMINAL_CODES.has(code) };
}

/** `bad_request` and `unauthorized`. [PROTOCOL §3.5] */
const TERMINAL_CODES = new Set([2, 3]);
const UNAUTHORIZED = 3;
const CLOSE_GRACE_MS = 50;
