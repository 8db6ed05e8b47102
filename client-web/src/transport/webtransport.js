// A feed over WebTransport: one session, from its start to its end. [PROTOCOL §5]

import { feedUrl, reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').End} End */
/** @typedef {import('../token.js').Tokens} Tokens */
/** @typedef {import('./control.js').ControlStream} ControlStream */
/**
 * @typedef {object} Endpoint
 * @property {URL} url
 * @property {{ algorithm: string, value: Uint8Array<ArrayBuffer> }[] | null} certificateHashes for a certificate that no browser knows
 */

/**
 * @param {Request} request
 * @returns {Connection}
 */
export function connectWebTransport(request) {
  const aborter = new AbortController();
  /** @type {WebTransport | null} */
  let session = null;
  /** Loaded and opened when something is asked for. @type {Promise<ControlStream> | null} */
  let control = null;
  /** @type {Tokens | undefined} */
  let tokens;
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
    const given = await tokens?.get(refused).catch(() => refused);
    finish({ reason, code: UNAUTHORIZED, isTerminal: given === refused });
  };

  /** @param {number} type of the frame @param {Record<string, unknown>} body */
  const ask = async (type, body) => {
    if (!session || !isReady) throw new Error('the session is not ready');
    const ready = session;
    control ??= import('./control.js').then(
      ({ ControlStream }) => new ControlStream(ready, (expiresAtMs) => tokens?.expires(expiresAtMs)),
      (error) => {
        // It may be loaded another time.
        control = null;
        throw error;
      },
    );
    await (await control).request(type, body);
  };

  const run = async () => {
    const { WebTransport } = request.environment;
    if (!WebTransport) return finish({ reason: 'WebTransport is not available in this browser', isTerminal: true });
    const endpoint = await findEndpoint(request, aborter.signal);
    tokens = await request.tokens?.();
    const token = await tokens?.get();
    if (isOver) return;
    const { searchParams } = feedUrl(request);
    // What isn't known a hub would bring where nobody sees it.
    const delivery = request.driver?.options.delivery ?? `${searchParams.get('delivery')}`;
    const reader = READERS.get(delivery);
    if (reader) searchParams.set('delivery', delivery);
    else searchParams.delete('delivery');
    // A browser sends no header with it, and a URL is written down in too many places.
    if (token !== undefined) searchParams.set('auth', 'inband');
    // It sends no cookies either: better no feed than one without what they let the page see.
    else if (request.withCredentials) searchParams.set('auth', 'required');
    endpoint.url.search = `${searchParams}`;
    const hashes = endpoint.certificateHashes;
    session = new WebTransport(endpoint.url.href, hashes ? { serverCertificateHashes: hashes } : {});
    // Both reject when a session fails, and an unhandled one is an error on the application's page.
    session.closed.then(
      // A moment for what the feed still holds: the reason of a close comes there first, as BYE.
      (info) => request.environment.setTimer(() => isAsking || finish(endOf(info)), CLOSE_GRACE_MS),
      (error) => isAsking || finish({ reason: reasonOf(error) }),
    );
    // What reads it is loaded while it connects.
    const reading = Promise.all([reader?.() ?? import('./feed.js'), import('../frames.js'), reader && import('../loose.js')]);
    reading.catch(() => {});
    await session.ready;
    isReady = true;
    if (isOver) {
      closeSession();
      return;
    }
    // Why it is refused comes as the feed's BYE.
    if (token !== undefined) ask(AUTH, { token }).catch(() => {});
    const [{ readSession }, , loose] = await reading;
    if (request.driver) loose?.loosen(request.driver.negotiation);
    await readSession(session, (message, changed) => {
      if (changed !== undefined) control?.then((stream) => stream.shows(changed), () => {});
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
    if (session && error?.name !== 'Malformed') request.environment.setTimer(() => isAsking || finish(end), 2 * CLOSE_GRACE_MS);
    else finish(end);
  });
  // Every type comes over this stream, whoever listens.
  return {
    close,
    listen() {},
    request: ask,
  };
}

/** @param {Request} request @param {AbortSignal} signal @returns {Promise<Endpoint>} */
async function findEndpoint({ url, environment, offer, onOffer }, signal) {
  if (offer) {
    try {
      return readOffer(offer, url);
    } catch {
      // Somebody else wrote it.
    }
  }
  const { askForOffer } = await import('../discovery.js');
  const fresh = await askForOffer(url, environment, signal);
  onOffer?.(fresh);
  return readOffer(fresh, url);
}

/**
 * @param {any} offer
 * @param {URL} feedUrl
 * @returns {Endpoint}
 * @throws where there is none, or none that can be used
 */
export function readOffer(offer, feedUrl) {
  if (!offer) throw new Error('this hub offers no WebTransport');
  const url = new URL(offer.url, feedUrl);
  if (!Array.isArray(offer.certificate_hashes)) return { url, certificateHashes: null };
  const certificateHashes = offer.certificate_hashes.slice(0, HASHES_MAX).map((/** @type {any} */ hash) => ({
    algorithm: String(hash.algorithm),
    value: Uint8Array.from(atob(hash.value), (char) => char.charCodeAt(0)),
  }));
  return { url, certificateHashes };
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

/** What reads a session where the feed isn't one ordered stream. [PROTOCOL §5.6, §5.7] */
const READERS = new Map([
  ['per-topic', () => import('./lanes.js')],
  ['datagram', () => import('./datagrams.js')],
]);
/** `bad_request` and `unauthorized`. [PROTOCOL §3.5] */
const TERMINAL_CODES = new Set([2, 3]);
const UNAUTHORIZED = 3;
const CLOSE_GRACE_MS = 50;
/** A type of frame. [PROTOCOL §5.4] */
const AUTH = 0x10;
/** More than a hub with a current, a next and a last certificate needs. */
const HASHES_MAX = 16;
