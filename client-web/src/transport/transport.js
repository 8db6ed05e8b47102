// What every transport is to the rest: one attempt to get a feed, from its start to its one end.

/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('../environment.js').Environment} Environment */
/** @typedef {'webtransport' | 'sse'} Kind */

/**
 * Why a connection ended.
 * @typedef {object} End
 * @property {string} reason for people
 * @property {number | null} [code] of BYE, where the hub gave one
 * @property {number | null} [status] of HTTP, where the hub refused with one
 * @property {number | null} [retryMs] when to come back, where the hub said so
 * @property {boolean} [isTerminal] coming back by oneself is of no use
 */

/**
 * @typedef {object} Request
 * @property {URL} url the feed's, as the application gave it
 * @property {string | null} lastEventId where to start; read it when the request is written, and not before
 * @property {number | null} heartbeatSeconds
 * @property {boolean} withCredentials
 * @property {ReadonlySet<string>} types of events that somebody listens to
 * @property {Environment} environment
 * @property {unknown} offer what the hub said of its WebTransport before; null where it is to be asked
 * @property {(offer: unknown) => void} onOffer what it says now
 * @property {((refused: string | null) => Promise<string>) | null} token what to show; another one than what was refused, if there is one
 * @property {(expiresAtMs: number) => void} onExpiry until when what was shown holds, where the hub says so
 * @property {(message: Message) => void} onMessage in the feed's order; never again after `onEnd` or `close()`
 * @property {(end: End) => void} onEnd once, and never after `close()`
 */

/**
 * @typedef {object} Closing
 * @property {boolean} [pageRests] the page goes into a back/forward cache: nothing of it runs from now on
 */

/**
 * @typedef {object} Connection
 * @property {(how?: Closing) => void} close at once, and silently
 * @property {(type: string) => void} listen to one more type of event
 * @property {(frameType: number, body: Record<string, unknown>) => Promise<any>} [request] asks the hub for something, in band;
 *   rejects with a `RequestError` where it refuses
 */

/** @typedef {(request: Request) => Connection} Connect */

/**
 * The query of a feed: the application's own, and what this client adds. [PROTOCOL §2.1]
 * @param {Request} request
 * @returns {URLSearchParams}
 */
export function feedQuery(request) {
  // Read once: it is asked of the negotiation.
  const { url, lastEventId, heartbeatSeconds } = request;
  const query = new URLSearchParams(url.search);
  if (heartbeatSeconds !== null) query.set('heartbeat', String(heartbeatSeconds));
  if (lastEventId) query.set('last_event_id', lastEventId);
  // What other hubs of the Mercure protocol call it.
  if (lastEventId && !lastEventId.startsWith('#')) query.set('lastEventID', lastEventId);
  return query;
}

/** @param {unknown} error */
export function reasonOf(error) {
  return error instanceof Error && error.message ? error.message : String(error);
}
